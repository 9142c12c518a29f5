"""A DTLS-SRTP client over OpenSSL, as browsers have one: it repeats its flight until it is answered."""

from __future__ import annotations

import contextlib

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from orchestrator.rtp.dtls import DATAGRAM_BYTES, fingerprint_of, new_identity

REPEAT_S = 0.05
_KEY, _SALT = 16, 14


class DtlsClient:
    """``keys``: what protects its own packets, and what protects the server's (master key and salt)."""

    def __init__(self, profile: bytes = b"SRTP_AES128_CM_SHA1_80") -> None:
        pem = new_identity().encode()
        certificate = x509.load_pem_x509_certificate(pem)
        self.fingerprint = fingerprint_of(certificate)
        context = SSL.Context(SSL.DTLS_METHOD)
        context.use_privatekey(serialization.load_pem_private_key(pem, None))  # type: ignore[arg-type]
        context.use_certificate(certificate)
        if profile:
            context.set_tlsext_use_srtp(profile)
        context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        self.connection = SSL.Connection(context)
        self.connection.set_ciphertext_mtu(DATAGRAM_BYTES)
        self.connection.set_connect_state()
        self.keys: tuple[bytes, bytes] | None = None
        self._flight: list[bytes] = []
        self._sent = 0.0

    def receive(self, datagram: bytes | None, now: float) -> list[bytes]:
        """What to send after a datagram; None: what is due without one."""
        if datagram is not None:
            self.connection.bio_write(datagram)
        if self.keys is None:
            try:
                self.connection.do_handshake()
                self._export()
            except SSL.WantReadError:
                pass
        else:
            with contextlib.suppress(SSL.Error):
                self.connection.recv(2000)
        out = self._written()
        if out:
            self._flight, self._sent = out, now
        elif self.keys is None and now - self._sent >= REPEAT_S:
            out, self._sent = self._flight, now
        return out

    def close(self) -> list[bytes]:
        """close_notify."""
        self.connection.shutdown()
        return self._written()

    def _export(self) -> None:
        data = self.connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (_KEY + _SALT))
        own, other = data[:_KEY], data[_KEY : 2 * _KEY]
        own_salt, other_salt = data[2 * _KEY : 2 * _KEY + _SALT], data[2 * _KEY + _SALT :]
        self.keys = own + own_salt, other + other_salt

    def _written(self) -> list[bytes]:
        """A whole flight in one datagram: this client repeats records as they were, and to OpenSSL as the server
        a ChangeCipherSpec that overtook others would be lost for good."""
        try:
            return [self.connection.bio_read(1 << 16)]
        except SSL.Error:
            return []
