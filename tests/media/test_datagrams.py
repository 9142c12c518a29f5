"""Sockets of browsers' calls: a port for each call, or one for all; checks that come before their call is known."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from orchestrator.media.bundle import BundleTransport, DatagramPath, Handshakes
from orchestrator.media.clock import MediaClock
from orchestrator.media.datagrams import OwnSocket, SharedSocket
from orchestrator.media.transport import Poller
from orchestrator.rtp import stun
from orchestrator.rtp.bundle import BundleAgreement
from orchestrator.rtp.dtls import new_identity
from orchestrator.rtp.ice import IceCredentials
from orchestrator.rtp.ports import PortPool
from testing.dtls_client import DtlsClient

HANDSHAKES = Handshakes(new_identity(), MediaClock())


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


class Peer:
    """A browser's socket, and its call over a path."""

    def __init__(self, path: DatagramPath, name: str) -> None:
        self.own = IceCredentials(f"ours-{name}", "x" * 24)
        self.agreement = BundleAgreement(self.own, "theirs", DtlsClient().fingerprint)
        self.transport = BundleTransport(path, HANDSHAKES, lambda event, reason: None)
        self.path = path
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)

    def check(self) -> None:
        attributes = [(stun.USERNAME, f"{self.own.ufrag}:theirs".encode()), (stun.USE_CANDIDATE, b"")]
        request = stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, self.own.password.encode())
        self.socket.sendto(request, ("127.0.0.1", self.path.port))

    def answered(self) -> bool:
        try:
            return stun.parse(self.socket.recv(2000)).kind == stun.BINDING_SUCCESS
        except TimeoutError:
            return False


def read(poller: Poller) -> None:
    time.sleep(0.01)  # the loopback's
    poller.poll(1.0)


def test_a_check_that_is_earlier_than_its_call_is_answered_once_that_is_known(poller: Poller) -> None:
    peer = Peer(OwnSocket(PortPool("127.0.0.1").open(), poller), "a")
    with closing(peer.socket), closing(peer.transport):
        peer.check()
        read(poller)
        assert not peer.answered()
        peer.transport.agree(peer.agreement)
        read(poller)
        assert peer.answered()


def test_one_port_for_all_calls_and_early_checks_there_too(poller: Poller) -> None:
    with closing(SharedSocket("127.0.0.1", 0, poller)) as shared:
        one, other = Peer(shared.open(), "one"), Peer(shared.open(), "other")
        with closing(one.socket), closing(other.socket):
            one.check()
            other.check()
            read(poller)
            assert not one.answered()
            one.transport.agree(one.agreement)
            assert one.answered()
            other.transport.agree(other.agreement)
            assert other.answered()
            assert one.transport.ice.selected == one.socket.getsockname()
            assert other.transport.ice.selected == other.socket.getsockname()
            # The address is another call's by now, as of a tab that was loaded anew.
            one.socket, again = other.socket, one.socket
            one.check()
            read(poller)
            assert one.answered()
            one.socket.sendto(b"\x16 of no handshake", ("127.0.0.1", shared.port))
            read(poller)
            assert (one.transport.strays, other.transport.strays) == (0, 0)
            other.transport.close()
            one.transport.close()
            again.close()


def test_of_checks_for_nobody_a_few_are_kept(poller: Poller) -> None:
    with closing(SharedSocket("127.0.0.1", 0, poller)) as shared:
        late = Peer(shared.open(), "late")
        with closing(late.socket), closing(late.transport):
            late.check()
            stranger = Peer(shared.open(), "nobody's")
            with closing(stranger.socket):
                for _ in range(40):
                    stranger.check()
                read(poller)
            late.transport.agree(late.agreement)
            assert not late.answered()  # browsers repeat it
            late.check()
            read(poller)
            assert late.answered()
