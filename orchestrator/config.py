"""Settings of the orchestrator: ``VISAVIS_*`` variables, one TOML file, or the command line."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import phonenumbers
from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from orchestrator.assistants.http_tool import HttpToolSettings
from orchestrator.calls.dial_plan import DialRule
from orchestrator.conversation.sentences import GREETING
from orchestrator.nameserver import split_address
from orchestrator.recording.sealed import read_key
from orchestrator.speech.base import SpeechError
from orchestrator.speech.voices import installed_voices
from orchestrator.webhook.signing import signing_key
from visavis.client.credentials import ServerCredentials
from visavis.service.listening import Tls
from visavis.service.secret import Secret, SecretUrl
from visavis.service.security import fleet_file
from visavis.service.settings import ServiceSettings, SettingsError, SettingsSource, from_json

SOURCE = SettingsSource(
    "orchestrator",
    "Visavis orchestrator: answers SIP calls with a talking face.",
    prefix="VISAVIS_",
    table="orchestrator",
    other_prefix="VISAVIS_INFERENCE_",
)


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaList = Annotated[list[str], BeforeValidator(_split)]


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


class Settings(ServiceSettings):
    """Every setting has a default that works on one machine."""

    sip_host: str = Field("0.0.0.0", description="address that SIP listens on (UDP and TCP)")
    sip_port: int = Field(5060, ge=0, le=65535, description="port that SIP listens on; 0 takes a free one")
    advertised_address: str = Field(
        "", description="address callers reach us at, for Contact and SDP; empty: the one the call came in on"
    )
    allow_from: CommaList = Field(
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
    sip_digest: Annotated[list[Literal["SHA-256", "MD5"]], BeforeValidator(_split)] = Field(
        ["SHA-256", "MD5"],
        min_length=1,
        description="digest algorithms that callers with a password may use, the preferred one first",
    )
    sip_accounts: Annotated[list[AccountSettings], BeforeValidator(from_json)] = Field(
        [],
        description='registrars and trunks, as JSON: [{"uri": "sip:avatar@pbx", "password": "secret"}]',
        repr=False,
    )
    dial_plan: CommaList = Field(
        [],
        description="whom calls, transfers and redirects may reach: allow +49*, deny *@pbx.example; the first rule "
        "that matches decides; where none does, all but premium numbers",
    )
    dial_region: str = Field(
        "", description="country of numbers that are dialled without one (DE, US); empty: they need a rule"
    )
    dial_per_minute: int = Field(
        60, ge=0, description="calls, transfers and redirects in a minute; 0: no limit"
    )
    dial_at_once: int = Field(0, ge=0, description="calls of ours under way at once; 0: no limit")
    dial_minutes: int = Field(
        1440, ge=0, description="minutes of calls to numbers within 24 hours; 0: no limit"
    )
    sip_proxies: CommaList = Field(
        ["127.0.0.0/8", "::1/128"],
        description="networks of proxies and PBXs that bring the calls of many: exempt from shares per address",
    )
    sip_nameserver: str = Field(
        "",
        description="DNS server (ip or ip:port) for SIP domains: NAPTR, SRV, addresses; empty: the system's",
    )
    rtp_port_min: int = Field(30000, ge=1024, le=65534, description="first UDP port for RTP and RTCP")
    rtp_port_max: int = Field(31999, ge=1025, le=65535, description="last UDP port for RTP and RTCP")
    web_udp_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="one UDP port for the media of all browsers, with one more for each further worker; 0: each "
        "call has its own",
    )
    web_ice_servers: CommaList = Field(
        [],
        description="STUN and TURN servers that browsers are told (stun:host, turn:host:3478?transport=udp)",
    )
    web_turn_secret: Secret = Field(
        Secret(),
        description="makes credentials for those TURN servers (coturn's static-auth-secret)",
        repr=False,
    )
    srtp: Srtp = Field(
        "off", description="SRTP with keys in SDP; the keys are secret only where SIP runs over TLS"
    )
    media_from: CommaList = Field(
        [],
        description="networks that phones may send media from which signalling names otherwise, as behind NAT "
        "and a proxy; empty: private ones, for signalling out of one; none: no network",
    )
    rtp_timeout_s: float = Field(
        60.0, ge=0, description="ends a call that has sent neither RTP nor RTCP for so long; 0: never"
    )
    database: SecretUrl = Field(
        SecretUrl(),
        description="where records and transcripts are kept: postgresql://user:password@host/name, or "
        "sqlite:////path/of/a/file; empty: records.db in data_dir",
        repr=False,
    )
    records_kept: int = Field(
        100_000, ge=1, description="ended calls whose records and transcripts are kept; the oldest go first"
    )
    records_days: float = Field(90.0, ge=0, description="days after which these are erased; 0: never")
    recording: Literal["off", "every"] = Field(
        "off", description="whether every call is recorded; off: those that the API asks for"
    )
    recording_announcement: str = Field(
        "", description="said as a recording begins, in the call's language; empty: nothing"
    )
    recording_tone: bool = Field(False, description="a tone is heard as a recording begins and resumes")
    recording_pause_key: Literal[
        "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#", "A", "B", "C", "D"
    ] = Field("", description="key of callers that pauses and resumes a recording; empty: none")
    recording_key_file: Path | None = Field(
        None, description="file whose content, at least 32 bytes, encrypts recordings; empty: they are not"
    )
    recordings_dir: Path | None = Field(
        None, description="folder of recordings; empty: recordings in data_dir"
    )
    recordings_days: float = Field(30.0, ge=0, description="days after which recordings are erased; 0: never")
    recordings_bytes: int = Field(
        20_000_000_000, ge=0, description="most bytes of recordings; the oldest are erased first"
    )
    recordings_s3: str = Field(
        "", description="S3-compatible store that recordings are moved to (s3://bucket/prefix); empty: none"
    )
    recordings_s3_endpoint: str = Field(
        "", description="its address (https://minio.example.com:9000); empty: Amazon's"
    )
    recordings_s3_region: str = Field("", description="its region; empty: us-east-1")
    recordings_s3_key_id: str = Field(
        "", description="access key; empty: as Amazon's tools find it (environment, instance)"
    )
    recordings_s3_secret: Secret = Field(Secret(), description="secret of that access key", repr=False)
    max_calls: int = Field(100, ge=1, description="calls at once; the next is answered 503")
    max_call_s: float = Field(14_400.0, ge=0, description="ends a call that has lasted so long; 0: never")

    drain_s: float = Field(
        0.0,
        ge=0,
        description="seconds that calls under way get to end by themselves after SIGTERM; 0: hung up at once",
    )

    api_host: str = Field("127.0.0.1", description="address of the control API")
    api_port: int = Field(8080, ge=0, le=65535, description="port of the control API; 0 takes a free one")

    api_tokens: Path | None = Field(
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
    api_proxies: CommaList = Field(
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

    avatar_servers: CommaList = Field(
        ["127.0.0.1:50051"],
        description="inference servers, host:port, dns:///name:port or kubernetes:///service.namespace:port, comma "
        "separated",
    )
    avatar_tokens: Path | None = Field(
        None,
        description="token file of the inference servers, whose first token is sent; empty: "
        "~/.local/share/visavis/tokens/fleet, made by whichever service starts first",
    )
    avatar_tls_ca: str = Field(
        "", description="PEM file with the CAs of inference servers, or system: they are spoken to over TLS"
    )
    avatar_tls_name: str = Field(
        "", description="name in their certificates, where dns:/// finds them by another"
    )
    avatar_tls_certificate: str = Field(
        "", description="PEM file with our certificate, where they ask for one"
    )
    avatar_tls_key: str = Field("", description="PEM file with its private key")
    avatar_nameserver: str = Field(
        "",
        description="DNS server (ip or ip:port) that is asked for dns:/// names; empty: the system's resolver",
    )
    avatar_image: Path | None = Field(
        None, description="the default avatar: a picture, or a built-in one's name (empty: lumi)"
    )
    avatar_fit: Literal["crop", "contain"] = Field("crop", description="crop around the head, or letterbox")
    size: str = Field("512x512", description="video size WIDTHxHEIGHT, both even")
    fps: int = Field(25, ge=5, le=60, description="video frames per second")
    video_bitrate: int = Field(1_000_000, ge=64_000, description="most bits per second of video")

    video_refresh: Literal["keyframes", "intra"] = Field(
        "keyframes",
        description="for phones that cannot ask for a key frame: one every second, or intra blocks in waves",
    )
    comfort_noise: bool = Field(False, description="offers comfort noise (RFC 3389), for phones that pause")

    av_trim_ms: int = Field(
        0,
        ge=-200,
        le=200,
        description="shows the picture this much later, for phones that play one of them late",
    )

    greeting: str = Field(
        "Hello, I am the face of this call. Ask the API to make me say something.",
        description="spoken when a call is answered; empty: nothing",
    )
    assistant: Literal["none", "scripted", "openai", "anthropic", "websocket"] = Field(
        "none", description="who talks with callers; none: the API alone does"
    )
    assistant_script: Path | None = Field(
        None, description="YAML file of the scripted assistant; empty: the built-in one"
    )
    assistant_url: SecretUrl = Field(
        SecretUrl(),
        description="root of an OpenAI-compatible or Anthropic service (http://127.0.0.1:11434/v1), or the "
        "ws:// or wss:// address of your own",
        repr=False,
    )
    assistant_key: Secret = Field(Secret(), description="key of the assistant's service", repr=False)
    assistant_model: str = Field("", description="name of the model")
    assistant_prompt: str = Field("", description="what the model is told of its task; empty: to be brief")
    assistant_greeting: str = Field(
        GREETING,
        description="what an assistant says first that is no script; where it is not set, in the call's language",
    )
    assistant_max_tokens: int = Field(300, ge=1, description="most tokens of one reply")
    assistant_tools: Annotated[list[HttpToolSettings], BeforeValidator(from_json)] = Field(
        [],
        description='web services that models may ask, as JSON: [{"name": "weather", "description": "...", '
        '"url": "https://...", "parameters": {...}}]',
        repr=False,
    )
    assistant_tool_hosts: CommaList = Field([], description="hosts that these tools may ask")
    assistant_transfer_to: str = Field(
        "", description="where an assistant may send callers (sip:help@example.com); empty: nowhere"
    )
    stt: Literal["builtin", "deepgram", "openai"] = Field(
        "builtin", description="who recognises what callers say; builtin: on this machine, English only"
    )
    stt_url: SecretUrl = Field(
        SecretUrl(),
        description="root of the recognition service; empty: the vendor's, whose protocol others speak, too",
        repr=False,
    )
    stt_key: Secret = Field(Secret(), description="key of the recognition service", repr=False)
    stt_model: str = Field("", description="its model; empty: nova-3, gpt-4o-mini-transcribe")
    tts: Literal["builtin", "elevenlabs", "openai"] = Field(
        "builtin",
        description="who speaks; builtin: the voices on this machine, which also speak where others fail",
    )
    tts_url: SecretUrl = Field(
        SecretUrl(),
        description="root of the voice's service; empty: the vendor's, whose protocol others speak, too",
        repr=False,
    )
    tts_key: Secret = Field(Secret(), description="key of the voice's service", repr=False)
    tts_model: str = Field("", description="its model; empty: eleven_flash_v2_5, gpt-4o-mini-tts")
    tts_voice: str = Field("", description="its voice: an id of ElevenLabs, a name of OpenAI (alloy)")
    max_conversations: int = Field(
        20, ge=1, description="callers that assistants talk with at once; the next one is told so"
    )
    conversation_minutes: int = Field(
        60, ge=0, description="minutes that an assistant talks with one caller, who is told; 0: no limit"
    )
    conversation_turns: int = Field(
        200, ge=0, description="answers that a caller gets from an assistant; 0: no limit"
    )
    conversation_tokens: int = Field(
        200_000, ge=0, description="tokens of a model for one caller, of requests and replies; 0: no limit"
    )
    language: str = Field("en", description="language of greeting and say: en, de, fr, es, cmn...")

    webhook: SecretUrl = Field(
        SecretUrl(), description="URL that gets every call event as a JSON POST; empty: none", repr=False
    )
    webhook_secret: Secret = Field(
        Secret(),
        description="signs the webhook's POSTs (Standard Webhooks): whsec_ and base64, or a text; empty: one is "
        "made and kept as webhook/secret in data_dir",
        repr=False,
    )
    data_dir: Path = Field(
        Path("~/.local/share/visavis"), description="uploaded avatars, events that wait for the webhook"
    )
    cache_dir: Path = Field(Path("~/.cache/visavis"), description="body loops and encoded idle video")
    cache_bytes: int = Field(2_000_000_000, ge=10_000_000, description="most bytes of cached body loops")
    media_workers: int = Field(1, ge=1, le=64, description="media worker processes; a call lives in one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")

    @property
    def database_url(self) -> str:
        """Of the database of records."""
        return self.database.reveal() or f"sqlite:///{self.data_dir / 'records.db'}"

    @property
    def api_token_file(self) -> Path:
        """Where the API's tokens lie."""
        return self.api_tokens or self.data_dir / "tokens" / "api"

    @property
    def api_tls(self) -> Tls:
        """The API's TLS files."""
        return Tls(self.api_tls_certificate, self.api_tls_key, self.api_tls_client_ca)

    @property
    def avatar_credentials(self) -> ServerCredentials:
        """What inference servers are shown, and how they are known."""
        return ServerCredentials(
            token_file=str(self.avatar_tokens or fleet_file()),
            tls_ca=self.avatar_tls_ca,
            tls_name=self.avatar_tls_name,
            tls_certificate=self.avatar_tls_certificate,
            tls_key=self.avatar_tls_key,
        )

    @property
    def video_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, _, height = self.size.lower().partition("x")
        return int(width), int(height)

    @property
    def assistant_greets(self) -> bool:
        """An assistant brings a greeting of its own, unless one is set, be it an empty one."""
        return self.assistant != "none" and "greeting" not in self.model_fields_set

    @property
    def first_words(self) -> str:
        """What is said when a call is answered, but for an assistant's greeting."""
        return "" if self.assistant_greets else self.greeting

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.fps)

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: str) -> str:
        width, _, height = value.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise ValueError("write it as WIDTHxHEIGHT, like 512x512")
        w, h = int(width), int(height)
        if w % 2 or h % 2:
            raise ValueError(f"H.264 4:2:0 video has no odd side: use {w & ~1}x{h & ~1}")
        if not (128 <= w <= 1920 and 128 <= h <= 1920):
            raise ValueError("it must lie within 128x128 and 1920x1920")
        return value

    @field_validator("allow_from", "sip_proxies", "media_from", "api_proxies")
    @classmethod
    def _check_networks(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if info.field_name == "media_from" and value == ["none"]:
            return value
        for network in value:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ValueError(f"'{network}' is not a network: write it as 10.0.0.0/8") from None
        return value

    @field_validator("dial_plan")
    @classmethod
    def _check_dial_plan(cls, value: list[str]) -> list[str]:
        for rule in value:
            DialRule.parse(rule)
        return value

    @field_validator("dial_region")
    @classmethod
    def _check_dial_region(cls, value: str) -> str:
        if value and value.upper() not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"'{value}' is no country: write it as DE or US")
        return value.upper()

    @field_validator("web_ice_servers")
    @classmethod
    def _check_ice_servers(cls, value: list[str]) -> list[str]:
        for url in value:
            if not url.startswith(("stun:", "stuns:", "turn:", "turns:")):
                raise ValueError(
                    f"'{url}' is no STUN or TURN server: write it as stun:host or turn:host:3478"
                )
        return value

    @field_validator("language")
    @classmethod
    def _check_language(cls, value: str) -> str:
        try:
            installed_voices().check(value)
        except SpeechError as error:
            raise ValueError(str(error)) from None
        return value

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

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: SecretUrl) -> SecretUrl:
        if value and urlsplit(value.reveal()).scheme not in ("postgresql", "postgres", "sqlite"):
            raise ValueError("write it as postgresql://user:password@host/name or sqlite:////path/of/a/file")
        return value

    @field_validator("recording_key_file")
    @classmethod
    def _check_key_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                read_key(value.expanduser())
            except OSError as error:
                raise ValueError(f"the key file cannot be read: {error.strerror}") from None
        return value

    @field_validator("recordings_s3")
    @classmethod
    def _check_bucket(cls, value: str) -> str:
        if value and not (value.startswith("s3://") and urlsplit(value).netloc):
            raise ValueError("write it as s3://bucket/prefix")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, value: Secret) -> Secret:
        if value:
            signing_key(value.reveal())
        return value

    @field_validator(
        "avatar_image",
        "assistant_script",
        "api_tokens",
        "avatar_tokens",
        "recording_key_file",
        "recordings_dir",
        mode="before",
    )
    @classmethod
    def _empty(cls, value: object) -> object:
        return value or None

    def account(self, uri: str) -> AccountSettings | None:
        """The registrar or trunk with this address of record."""
        return next((account for account in self.sip_accounts if account.uri == uri), None)

    @field_validator("avatar_nameserver", "sip_nameserver")
    @classmethod
    def _check_nameserver(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator(
        "data_dir", "cache_dir", "api_tokens", "avatar_tokens", "recording_key_file", "recordings_dir"
    )
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None

    @model_validator(mode="after")
    def _check_ports(self) -> Settings:
        self.api_tls.check()
        self.avatar_credentials.check()
        if any(url.startswith("turn") for url in self.web_ice_servers) and not self.web_turn_secret:
            raise ValueError("web_ice_servers names a TURN server, which needs web_turn_secret")
        if self.sip_tls_port and not (self.sip_tls_certificate and self.sip_tls_key):
            raise ValueError("sip_tls_port needs sip_tls_certificate and sip_tls_key")
        if self.rtp_port_max - self.rtp_port_min < 3:
            raise ValueError("rtp_port_max must be at least rtp_port_min + 3: one call takes four ports")
        return self


def load_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line, the environment and the file; a wrong value ends the process.

    Exit status 2 and one sentence on standard error name what is wrong.
    """
    try:
        return SOURCE.load(Settings, sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
