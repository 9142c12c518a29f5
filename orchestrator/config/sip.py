"""Settings of SIP: where it listens, who may call, registrars and trunks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from orchestrator.config.kinds import Nameserver, Networks, split_commas
from visavis.service.secret import Secret
from visavis.service.settings import ServiceSettings, from_json

Srtp = Literal["off", "optional", "required"]


class AccountSettings(BaseModel):
    """One registrar or trunk; see ``docs/sip.md``. ``None``: as for every call."""

    uri: str
    password: Secret = Secret()
    username: str = ""
    registrar: str = ""
    proxies: list[str] = []
    expires: int = Field(300, ge=30)
    register_: bool = Field(True, alias="register")
    ping: float = Field(0.0, ge=0)
    realm: str = ""
    srtp: Srtp | None = None
    av_trim_ms: int | None = Field(None, ge=-200, le=200)


class SipSettings(ServiceSettings):
    """Where SIP listens, who may call, registrars and trunks."""

    sip_host: str = Field("0.0.0.0", description="address that SIP listens on (UDP and TCP)")
    sip_port: int = Field(5060, ge=0, le=65535, description="port that SIP listens on; 0 takes a free one")
    advertised_address: str = Field(
        "", description="address callers reach us at, for Contact and SDP; empty: the one the call came in on"
    )
    allow_from: Networks = Field(
        [],
        description="source networks that may call (10.0.0.0/8, 203.0.113.7); empty: private addresses only",
    )
    sip_tls_port: int = Field(0, ge=0, le=65535, description="port of SIP over TLS; 0: none")
    sip_tls_certificate: str = Field("", description="PEM file with our certificate and chain, for TLS")
    sip_tls_key: str = Field("", description="PEM file with its private key")
    sip_tls_ca: str = Field(
        "", description="PEM file with the CAs that servers we call over TLS need; empty: the system's"
    )
    sip_tls_client_ca: str = Field(
        "", description="PEM file with the CAs of clients; with it every TLS client needs a certificate"
    )
    sip_users: Annotated[dict[str, Secret], BeforeValidator(from_json)] = Field(
        {},
        description='user names and passwords that callers must give, as JSON: {"anna": "secret"}',
        repr=False,
    )
    sip_digest: Annotated[list[Literal["SHA-256", "MD5"]], split_commas] = Field(
        ["SHA-256", "MD5"],
        min_length=1,
        description="digest algorithms that callers with a password may use, the preferred one first",
    )
    sip_accounts: Annotated[list[AccountSettings], BeforeValidator(from_json)] = Field(
        [],
        description='registrars and trunks, as JSON: [{"uri": "sip:avatar@pbx", "password": "secret"}]',
        repr=False,
    )
    sip_proxies: Networks = Field(
        ["127.0.0.0/8", "::1/128"],
        description="networks of proxies and PBXs that bring the calls of many: exempt from shares per address",
    )
    sip_nameserver: Nameserver = Field(
        "",
        description="DNS server (ip or ip:port) for SIP domains: NAPTR, SRV, addresses; empty: the system's",
    )

    def account(self, uri: str) -> AccountSettings | None:
        """The registrar or trunk with this address of record."""
        return next((account for account in self.sip_accounts if account.uri == uri), None)

    @model_validator(mode="after")
    def _check_sip_tls(self) -> SipSettings:
        if self.sip_tls_port and not (self.sip_tls_certificate and self.sip_tls_key):
            raise ValueError("sip_tls_port needs sip_tls_certificate and sip_tls_key")
        return self
