"""The media of a browser, without sockets and time: checks, handshake, SRTP."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from pylibsrtp import Policy, Session

from orchestrator.media.bundle import BundleTransport
from orchestrator.rtp import stun
from orchestrator.rtp.agreed import Address
from orchestrator.rtp.bundle import BundleAgreement
from orchestrator.rtp.ice import IceCredentials
from testing.dtls_client import DtlsClient

PEER: Address = ("192.0.2.7", 50_000)
OWN = IceCredentials("ours", "x" * 24)
_PROFILE = Policy.SRTP_PROFILE_AES128_CM_SHA1_80


class FakePath:
    """A path that keeps what is sent."""

    port = 4000

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address]] = []
        self.claimed: list[str] = []
        self.closed = False

    def claim(self, ufrag: str, owner: BundleTransport) -> None:
        self.claimed.append(ufrag)

    def send(self, data: bytes, to: Address) -> None:
        self.sent.append((data, to))

    def close(self) -> None:
        self.closed = True

    def take(self) -> list[bytes]:
        """What was sent since the last time."""
        taken, self.sent = [data for data, _ in self.sent], []
        return taken


@dataclass
class WebPeer:
    """A browser at one address, for a transport over ``path``."""

    transport: BundleTransport
    path: FakePath
    step: Callable[[float], None]
    client: DtlsClient = field(default_factory=DtlsClient)
    ufrag: str = "theirs"
    address: Address = PEER
    now: float = 0.0

    @property
    def agreement(self) -> BundleAgreement:
        return BundleAgreement(OWN, self.ufrag, self.client.fingerprint)

    def check(self, *, nominate: bool = True, password: str = OWN.password) -> bool:
        """Send a connectivity check; whether it was answered with success."""
        attributes = [(stun.USERNAME, f"{OWN.ufrag}:{self.ufrag}".encode()), (stun.PRIORITY, bytes(4))]
        if nominate:
            attributes.append((stun.USE_CANDIDATE, b""))
        request = stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, password.encode())
        self.transport.receive(request, self.address, self.now)
        answers = [stun.parse(data) for data in self.path.take() if stun.looks_like_stun(data)]
        return any(answer.kind == stun.BINDING_SUCCESS for answer in answers)

    def shake(self, seconds: float = 5.0) -> bool:
        """The handshake, a slot at a time; whether it succeeded on both sides."""
        end = self.now + seconds
        answers: list[bytes] = []
        while self.now < end and not (self.client.keys and self.transport.secured):
            asks = [out for data in answers for out in self.client.receive(data, self.now)]
            for ask in asks or self.client.receive(None, self.now):
                self.transport.receive(ask, self.address, self.now)
            self.step(self.now)
            answers = self.path.take()
            self.now += 0.005
        return bool(self.client.keys) and self.transport.secured

    def protector(self) -> Session:
        """SRTP of what the browser sends."""
        assert self.client.keys
        return Session(Policy(self.client.keys[0], Policy.SSRC_ANY_OUTBOUND, 0, _PROFILE))

    def reader(self) -> Session:
        """SRTP of what it receives."""
        assert self.client.keys
        return Session(Policy(self.client.keys[1], Policy.SSRC_ANY_INBOUND, 0, _PROFILE))
