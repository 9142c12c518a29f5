"""DTLS-SRTP: handshakes over paths that lose and reorder, keys that fit, certificates that do not."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from OpenSSL import SSL

from orchestrator.rtp.bundle import Fingerprint
from orchestrator.rtp.dtls import (
    DATAGRAM_BYTES,
    DtlsServer,
    fingerprint_of,
    identity_fingerprint,
    is_dtls,
    new_identity,
    server_context,
)
from testing.dtls_client import DtlsClient

IDENTITY = new_identity()
STEP_S = 0.01


@pytest.fixture(scope="module")
def context() -> SSL.Context:
    return server_context(IDENTITY)


@dataclass
class Path:
    """Carries datagrams both ways, a step later; some are lost, some are overtaken."""

    loss: float = 0.0
    reorder: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(4))
    lost: int = 0

    def carry(self, datagrams: list[bytes]) -> list[bytes]:
        kept = [datagram for datagram in datagrams if self.rng.random() >= self.loss]
        self.lost += len(datagrams) - len(kept)
        if self.rng.random() < self.reorder:
            kept.reverse()
        return kept


def records(datagrams: list[bytes]) -> list[bytes]:
    """Each in a datagram of its own, but for a ChangeCipherSpec and what follows it."""
    out = list[bytes]()
    for data in datagrams:
        at = 0
        while at < len(data):
            end = len(data) if data[at] == 20 else at + 13 + int.from_bytes(data[at + 11 : at + 13])
            out.append(data[at:end])
            at = end
    return out


def shake(server: DtlsServer, client: DtlsClient, path: Path, seconds: float = 20.0) -> float:
    """Until both are through, or so long; how long it took."""
    now, to_server, to_client = 0.0, list[bytes](), list[bytes]()
    while now < seconds and not (server.keys and client.keys) and not server.failed:
        answers = [out for data in to_server for out in server.receive(data, now)] + server.repeats(now)
        asks = [out for data in to_client for out in client.receive(data, now)] or client.receive(None, now)
        assert all(is_dtls(out[0]) and len(out) <= DATAGRAM_BYTES for out in answers)
        to_server, to_client = path.carry(asks), path.carry(records(answers))
        now += STEP_S
    return now


def test_both_ends_get_the_same_keys(context: SSL.Context) -> None:
    client = DtlsClient()
    server = DtlsServer(context, client.fingerprint)
    assert shake(server, client, Path()) < 0.1
    assert server.keys is not None
    assert client.keys is not None
    assert (server.keys.remote_key, server.keys.local_key) == client.keys
    assert server.keys.suite == "AES_CM_128_HMAC_SHA1_80"
    peer = client.connection.get_peer_certificate(as_cryptography=True)
    assert peer is not None
    assert identity_fingerprint(IDENTITY) == fingerprint_of(peer)
    assert server.repeats(100.0) == []


@pytest.mark.parametrize("seed", range(8))
def test_lost_and_reordered_flights_are_repeated(context: SSL.Context, seed: int) -> None:
    client = DtlsClient()
    server = DtlsServer(context, client.fingerprint)
    path = Path(loss=0.3, reorder=0.3, rng=random.Random(seed))
    assert shake(server, client, path) < 10.0
    assert server.keys is not None
    assert client.keys is not None
    assert (server.keys.remote_key, server.keys.local_key) == client.keys


def test_our_flight_is_repeated_until_it_is_answered(context: SSL.Context) -> None:
    client = DtlsClient()
    server = DtlsServer(context, client.fingerprint)
    flight = [out for data in client.receive(None, 0.0) for out in server.receive(data, 0.0)]
    assert flight
    assert server.repeats(0.05) == []
    assert server.repeats(0.11) == flight
    assert server.repeats(0.2) == []
    assert server.repeats(0.32) == flight


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-384", "sha-512"])
def test_fingerprints_of_every_algorithm_are_compared(context: SSL.Context, algorithm: str) -> None:
    client = DtlsClient()
    own = client.connection.get_context()
    certificate = client.connection.get_certificate(as_cryptography=True)
    assert own is not None
    assert certificate is not None
    right = fingerprint_of(certificate, algorithm)
    server = DtlsServer(context, Fingerprint(algorithm, right.value.lower()))
    shake(server, client, Path())
    assert server.keys is not None


def test_a_wrong_certificate_gets_no_keys(context: SSL.Context) -> None:
    client = DtlsClient()
    server = DtlsServer(context, DtlsClient().fingerprint)
    shake(server, client, Path(), 1.0)
    assert server.keys is None
    assert "fingerprint" in server.failed
    assert server.receive(b"\x16" * 40, 2.0) == []


def test_a_client_without_srtp_is_refused(context: SSL.Context) -> None:
    client = DtlsClient(profile=b"")
    server = DtlsServer(context, client.fingerprint)
    shake(server, client, Path(), 1.0)
    assert server.keys is None
    assert "SRTP" in server.failed


def test_close_notify_either_way(context: SSL.Context) -> None:
    client = DtlsClient()
    server = DtlsServer(context, client.fingerprint)
    assert server.close() == []
    shake(server, client, Path())
    for datagram in client.close():
        server.receive(datagram, 1.0)
    assert server.closed

    client = DtlsClient()
    server = DtlsServer(context, client.fingerprint)
    shake(server, client, Path())
    (goodbye,) = server.close()
    client.connection.bio_write(goodbye)
    with pytest.raises(SSL.ZeroReturnError):
        client.connection.recv(100)


def test_what_is_no_handshake_raises_nothing(context: SSL.Context) -> None:
    rng = random.Random(1)
    client = DtlsClient()
    (hello, *_) = client.receive(None, 0.0)
    for _ in range(300):
        server = DtlsServer(context, client.fingerprint)
        broken = bytearray(hello)
        for _ in range(rng.randrange(1, 6)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        server.receive(bytes(broken), 0.0)
        server.receive(rng.randbytes(rng.randrange(1, 400)), 0.0)
        assert server.keys is None


def test_after_the_handshake_a_forged_record_changes_nothing(context: SSL.Context) -> None:
    client = DtlsClient()
    server = DtlsServer(context, client.fingerprint)
    shake(server, client, Path())
    server.receive(bytes.fromhex("15fefd0001000000000009 0002 0100".replace(" ", "")), 1.0)
    assert not server.closed
