"""TLS contexts for SIP: our certificate, whom we trust, whom we demand a certificate of."""

from __future__ import annotations

import ssl

from .config import TlsConfig


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """Raises OSError where the certificate cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.certificate, config.private_key or None)
    if config.client_ca:
        context.load_verify_locations(config.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(config: TlsConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.trust_ca or None)
    if not config.verify_server:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.certificate:
        context.load_cert_chain(config.certificate, config.private_key or None)
    return context
