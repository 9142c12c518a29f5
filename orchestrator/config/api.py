"""Settings of the API and of the webhook: where it listens, who may use it, who hears events."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from orchestrator.config.kinds import CommaList, Networks, OptionalPath
from orchestrator.webhook.signing import signing_key
from visavis.service.listening import Tls
from visavis.service.secret import Secret, SecretUrl
from visavis.service.settings import ServiceSettings


class ApiSettings(ServiceSettings):
    """Where the API listens, who may use it, who hears events."""

    api_host: str = Field("127.0.0.1", description="address of the control API")
    api_port: int = Field(8080, ge=0, le=65535, description="port of the control API; 0 takes a free one")
    api_tokens: OptionalPath = Field(
        None, description="file with the API's tokens, made at the first start; empty: tokens/api in data_dir"
    )
    api_insecure: bool = Field(
        False, description="also serves requests that bring no token; only for the time of a rollout"
    )
    api_hosts: CommaList = Field(
        [], description="public names of the API: its pages and probes answer to no others (DNS rebinding)"
    )
    api_origins: CommaList = Field(
        [], description="web origins (https://app.example.com) whose pages may use the API, with a token"
    )
    api_proxies: Networks = Field(
        [], description="networks of reverse proxies before the API, whose X-Forwarded-For says who calls"
    )
    api_tls_certificate: str = Field("", description="PEM file with the API's certificate and chain, for TLS")
    api_tls_key: str = Field("", description="PEM file with its private key")
    api_tls_client_ca: str = Field(
        "", description="PEM file with the CAs of clients: with it each needs a certificate, and no token"
    )
    probe_host: str = Field("127.0.0.1", description="address of the port of probes and /metrics")
    probe_port: int = Field(
        0, ge=0, le=65535, description="port of their own for probes and /metrics; 0: the API's port"
    )
    webhook: SecretUrl = Field(
        SecretUrl(), description="URL that gets every call event as a JSON POST; empty: none", repr=False
    )
    webhook_secret: Secret = Field(
        Secret(),
        description="signs the webhook's POSTs (Standard Webhooks): whsec_ and base64, or a text; empty: one is "
        "made and kept as webhook/secret in data_dir",
        repr=False,
    )

    @property
    def api_tls(self) -> Tls:
        """The API's TLS files."""
        return Tls(self.api_tls_certificate, self.api_tls_key, self.api_tls_client_ca)

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, value: SecretUrl) -> SecretUrl:
        try:
            parts = urlsplit(value.reveal())
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if value and not usable:
            raise ValueError("write it as https://host/path")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, value: Secret) -> Secret:
        if value:
            signing_key(value.reveal())
        return value

    @model_validator(mode="after")
    def _check_api_tls(self) -> ApiSettings:
        self.api_tls.check()
        return self
