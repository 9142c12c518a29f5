"""Settings of the SIP stack."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """One registration or trunk: `uri` is the address of record, `registrar` where REGISTER goes.

    `proxies` are tried in order (sip URIs); none means the registrar's own address. `register=False` only
    gives outbound calls their credentials. `ping` is how often each proxy is asked for OPTIONS, in seconds
    (0: never); one that does not answer is dialled last. With a password calls go over the proxies or the
    registrar, and only their challenges are answered, of `realm` where that is given.
    """

    uri: str
    password: str = field(repr=False, default="")
    username: str = ""
    registrar: str = ""
    proxies: tuple[str, ...] = ()
    expires: int = 300
    register: bool = True
    ping: float = 0.0
    realm: str = ""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS settings, files in PEM.

    `client_ca` demands client certificates; `trust_ca` replaces the system's roots.
    """

    certificate: str = ""
    private_key: str = field(repr=False, default="")
    client_ca: str = ""
    trust_ca: str = ""
    verify_server: bool = True


@dataclass(frozen=True, slots=True)
class SipConfig:
    """Settings of one stack.

    Addresses are `host:port`, IPv6 in brackets; port 0 takes a free one; an empty list turns one off.

    `allow_from` is networks in CIDR notation; empty means private and loopback addresses only.
    `advertised_host` is the address that peers beyond a NAT reach us at.
    `users` maps user names to passwords: where it is not empty INVITEs are challenged (digest),
    except from `trusted` networks. `digest_algorithms` is the order of the challenges, the preferred one first
    (RFC 8760). `nameserver` (IP address, port) is asked instead of the
    system's DNS servers. `proxies` are networks of servers that bring the calls of many callers, besides those
    of the accounts: see `budget.LineBudget`. `max_call_seconds` is how long a call may last (0: for ever).
    """

    udp: tuple[str, ...] = ("0.0.0.0:5060",)
    tcp: tuple[str, ...] = ("0.0.0.0:5060",)
    tls: tuple[str, ...] = ()
    tls_config: TlsConfig = field(default_factory=TlsConfig)
    advertised_host: str = ""
    user_agent: str = "Visavis"
    contact_user: str = "visavis"
    allow_from: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    users: dict[str, str] = field(default_factory=dict, repr=False)
    realm: str = "visavis"
    digest_algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    accounts: tuple[Account, ...] = ()
    max_calls: int = 300
    max_calls_per_source: int = 300
    messages_per_second: float = 500.0
    invites_per_second: float = 60.0
    retry_after: int = 30
    session_expires: int = 1800
    min_se: int = 90
    ring_timeout: float = 60.0
    max_call_seconds: float = 14_400.0
    trace_messages: int = 200
    nameserver: tuple[str, int] | None = None
