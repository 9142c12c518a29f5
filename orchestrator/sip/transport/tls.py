"""TLS contexts for SIP: our certificate, whom we trust, whom we demand a certificate of."""

from __future__ import annotations

import ssl

from orchestrator.sip.config import TlsConfig


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """The context of connections to us. Raises OSError where the certificate cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.certificate, config.private_key or None)
    if config.client_ca:
        context.load_verify_locations(config.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def untrusted(error: ssl.SSLCertVerificationError, name: str) -> ssl.SSLCertVerificationError:
    """The same error as one sentence that says what to do; ``name`` is whose certificate it was to be."""
    sentence = f"the TLS certificate of {name} is not trusted: {error.verify_message}"
    if "CA cert" in error.verify_message or "Basic Constraints" in error.verify_message:
        sentence += (
            "; make the private CA anew with critical basicConstraints and keyUsage, as docs/sip.md says"
        )
    told = ssl.SSLCertVerificationError(error.errno, sentence)
    told.verify_code, told.verify_message = error.verify_code, error.verify_message
    return told


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """The context of connections of ours, with our certificate for servers that demand one."""
    context = ssl.create_default_context(cafile=config.trust_ca or None)
    if not config.verify_server:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.certificate:
        context.load_cert_chain(config.certificate, config.private_key or None)
    return context
