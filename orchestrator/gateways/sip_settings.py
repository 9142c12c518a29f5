"""What the SIP stack is told of the settings."""

from __future__ import annotations

from orchestrator.config import AccountSettings, Settings
from orchestrator.nameserver import split_address
from orchestrator.sip.config import Account, SipConfig, TlsConfig


def sip_config(settings: Settings) -> SipConfig:
    """Listening addresses, TLS files, who may call, accounts."""
    host = f"[{settings.sip_host}]" if ":" in settings.sip_host else settings.sip_host
    address = f"{host}:{settings.sip_port}"
    return SipConfig(
        udp=(address,),
        tcp=(address,),
        tls=(f"{host}:{settings.sip_tls_port}",) if settings.sip_tls_port else (),
        tls_config=TlsConfig(
            settings.sip_tls_certificate,
            settings.sip_tls_key,
            client_ca=settings.sip_tls_client_ca,
            trust_ca=settings.sip_tls_ca,
        ),
        advertised_host=settings.advertised_address,
        allow_from=tuple(settings.allow_from),
        proxies=tuple(settings.sip_proxies),
        users={name: secret.reveal() for name, secret in settings.sip_users.items()},
        digest_algorithms=tuple(settings.sip_digest),
        nameserver=split_address(settings.sip_nameserver) if settings.sip_nameserver else None,
        accounts=tuple(_account(account) for account in settings.sip_accounts),
        max_calls=settings.max_calls,
        max_calls_per_source=settings.max_calls,
        max_call_seconds=settings.max_call_s,
    )


def _account(account: AccountSettings) -> Account:
    return Account(
        uri=account.uri,
        password=account.password.reveal(),
        username=account.username,
        registrar=account.registrar,
        proxies=tuple(account.proxies),
        expires=account.expires,
        register=account.register_,
        ping=account.ping,
        realm=account.realm,
    )
