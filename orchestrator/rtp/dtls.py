"""DTLS-SRTP as the server (RFC 5763, RFC 5764), through OpenSSL. Sans-IO: datagrams in, datagrams and keys out."""

from __future__ import annotations

import datetime
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.rtp.bundle import Fingerprint

DATAGRAM_BYTES = 1200
_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha-256": hashes.SHA256,
    "sha-384": hashes.SHA384,
    "sha-512": hashes.SHA512,
}
_SUITE, _KEY_BYTES, _SALT_BYTES = "AES_CM_128_HMAC_SHA1_80", 16, 14
_LABEL = b"EXTRACTOR-dtls_srtp"
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
_FIRST_REPEAT, _LONGEST_REPEAT = 0.1, 1.6
_RECORD_HEADER = 13
_HANDSHAKE = (20, 22)
"""Content types of a handshake's records: ChangeCipherSpec and Handshake."""


def is_dtls(first: int) -> bool:
    """By a datagram's first octet (RFC 7983 section 7)."""
    return 20 <= first <= 63


def fingerprint_of(certificate: x509.Certificate, algorithm: str = "sha-256") -> Fingerprint:
    """By one of ``FINGERPRINT_HASHES``; raises ``KeyError`` for any other."""
    return Fingerprint(algorithm, certificate.fingerprint(_HASHES[algorithm]()).hex(":").upper())


def matches(fingerprint: Fingerprint, certificate: x509.Certificate) -> bool:
    """Whether it is this certificate's."""
    return hmac.compare_digest(
        fingerprint_of(certificate, fingerprint.algorithm).value, fingerprint.value.upper()
    )


def new_identity() -> str:
    """A private key and its self-signed certificate, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "visavis")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


def identity_fingerprint(pem: str) -> Fingerprint:
    """The fingerprint of such an identity."""
    return fingerprint_of(x509.load_pem_x509_certificate(pem.encode()))


def server_context(pem: str) -> SSL.Context:
    """What all associations of a process share: the identity of :func:`new_identity`, ciphers, SRTP profile."""
    context = SSL.Context(SSL.DTLS_METHOD)
    # Certificates are self-signed: each is judged by its fingerprint, after the handshake (RFC 5763 section 5).
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    context.use_privatekey(key)
    context.use_certificate(x509.load_pem_x509_certificate(pem.encode()))
    context.set_cipher_list(_CIPHERS)
    context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_80")
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


@dataclass(slots=True)
class _Flight:
    """What we sent last, until the peer goes on."""

    datagrams: list[bytes] = field(default_factory=list)
    repeat_at: float = float("inf")
    wait: float = _FIRST_REPEAT


class DtlsServer:
    """One association with one peer, whose certificate must have ``expected`` as its fingerprint.

    ``keys`` are there once the handshake is over and the certificate was the right one; ``failed`` is one sentence;
    ``closed``: the peer said close_notify. ``now`` is in seconds of any clock. A flight of ours that the peer does
    not answer is sent again, record by record the same: what did arrive is dropped there as a replay.
    """

    def __init__(self, context: SSL.Context, expected: Fingerprint) -> None:
        self.expected = expected
        self.keys: SrtpKeys | None = None
        self.failed = ""
        self.closed = False
        self._flight = _Flight()
        self._connection = SSL.Connection(context)
        self._connection.set_ciphertext_mtu(DATAGRAM_BYTES)
        self._connection.set_accept_state()

    def receive(self, datagram: bytes, now: float) -> list[bytes]:
        """What to answer. Nothing in the datagram makes this raise."""
        if self.failed or self.closed or not datagram:
            return []
        self._connection.bio_write(datagram)
        over = self.keys is not None
        if not over:
            self._shake()
        else:
            self._read()
        answer = self._written()
        if answer and not over:
            # The last flight is only sent again when the peer repeats its own (RFC 6347 section 4.2.4).
            self._flight = _Flight(answer, float("inf") if self.keys else now + _FIRST_REPEAT)
        elif not answer and over and datagram[0] in _HANDSHAKE:
            answer = self._flight.datagrams
        return answer

    def repeats(self, now: float) -> list[bytes]:
        """The last flight again, where its answer is overdue."""
        flight = self._flight
        if now < flight.repeat_at or self.failed:
            return []
        flight.wait = min(2 * flight.wait, _LONGEST_REPEAT)
        flight.repeat_at = now + flight.wait
        return flight.datagrams

    def close(self) -> list[bytes]:
        """close_notify, where the handshake is over."""
        if self.keys is None or self.closed:
            return []
        self.closed = True
        try:
            self._connection.shutdown()
        except SSL.Error:
            return []
        return self._written()

    def _shake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self.failed = f"the DTLS handshake failed: {_reason(error)}"
            return
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None or not matches(self.expected, certificate):
            self.failed = "the DTLS certificate is not the one whose fingerprint the session description has"
            return
        if self._connection.get_selected_srtp_profile() != b"SRTP_AES128_CM_SHA1_80":
            self.failed = "no SRTP profile was agreed in the DTLS handshake"
            return
        size = 2 * (_KEY_BYTES + _SALT_BYTES)
        material = self._connection.export_keying_material(_LABEL, size)
        client, server = material[:_KEY_BYTES], material[_KEY_BYTES : 2 * _KEY_BYTES]
        client_salt, server_salt = material[2 * _KEY_BYTES : -_SALT_BYTES], material[-_SALT_BYTES:]
        self.keys = SrtpKeys(_SUITE, server + server_salt, client + client_salt)

    def _read(self) -> None:
        """Alerts, and handshake messages that the peer sends again since our last flight was lost."""
        try:
            self._connection.recv(DATAGRAM_BYTES)
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error:
            pass  # nothing to read, or a forged record: DTLS drops those (RFC 6347 section 4.1.2.7)

    def _written(self) -> list[bytes]:
        """Whole records, as many to a datagram as fit: the memory between us and OpenSSL keeps no borders."""
        out: list[bytes] = []
        try:
            data = self._connection.bio_read(1 << 16)
        except SSL.Error:
            return out
        at = 0
        while at + _RECORD_HEADER <= len(data):
            end = at + _RECORD_HEADER + int.from_bytes(data[at + 11 : at + 13])
            if out and len(out[-1]) + end - at <= DATAGRAM_BYTES:
                out[-1] += data[at:end]
            else:
                out.append(data[at:end])
            at = end
        return out


def _reason(error: SSL.Error) -> str:
    told = error.args[0] if error.args else ()
    return told[0][-1] if isinstance(told, list) and told else type(error).__name__
