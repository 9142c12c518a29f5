"""UDP sockets of bundles: one for each call, or one for all calls of a process."""

from __future__ import annotations

import socket
import time
from collections import deque

from orchestrator.media.bundle import BundleTransport
from orchestrator.media.transport import Poller
from orchestrator.rtp.agreed import Address
from orchestrator.rtp.ice import addressed_ufrag
from orchestrator.rtp.ports import PortPair
from orchestrator.rtp.stun import looks_like_stun

_DATAGRAM = 2048
_MOST_PER_POLL = 64
_MOST_EARLY = 32
_RECEIVE_BUFFER = 1 << 21


class OwnSocket:
    """A call's own port: the even one of a pair."""

    def __init__(self, pair: PortPair, poller: Poller) -> None:
        pair.rtcp.close()
        self._pair = pair
        self._socket = pair.rtp
        self._poller = poller
        self._owner: BundleTransport | None = None
        self.port = pair.port

    def claim(self, ufrag: str, owner: BundleTransport) -> None:
        """Everything that comes is this call's, and what has come."""
        if self._owner is None:
            self._poller.add(self._socket.fileno(), self._read)
        self._owner = owner

    def send(self, data: bytes, to: Address) -> None:
        self._socket.sendto(data, to)

    def close(self) -> None:
        if self._owner is not None and self._socket.fileno() >= 0:
            self._poller.remove(self._socket.fileno())
        self._pair.close()
        self._owner = None

    def _read(self, now: float) -> None:
        try:
            data, source = self._socket.recvfrom(_DATAGRAM)
        except OSError:
            return  # nothing there, or an ICMP error that was reported here
        if self._owner is not None:
            self._owner.receive(data, (source[0], source[1]), now)


class SharedSocket:
    """One port for all calls: a check says by its user fragment whose it is, and what follows from there is too."""

    def __init__(self, host: str, port: int, poller: Poller) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._poller = poller
        self._by_ufrag: dict[str, BundleTransport] = {}
        self._by_source: dict[Address, BundleTransport] = {}
        self._early: deque[tuple[str, bytes, Address]] = deque(maxlen=_MOST_EARLY)
        poller.add(self._socket.fileno(), self._read)

    def open(self) -> SharedPath:
        """A call's share of it."""
        return SharedPath(self)

    def close(self) -> None:
        """No call has media any more."""
        if self._socket.fileno() >= 0:
            self._poller.remove(self._socket.fileno())
        self._socket.close()

    def claim(self, ufrag: str, owner: BundleTransport) -> None:
        """A browser has the answer before this process is told of it: its first check may have come already."""
        self._by_ufrag[ufrag] = owner
        self._early, early = deque(maxlen=_MOST_EARLY), self._early
        for named, data, source in early:
            if named == ufrag:
                self._check(owner, data, source, time.monotonic())
            else:
                self._early.append((named, data, source))

    def forget(self, owner: BundleTransport) -> None:
        """Nothing more is for this call."""
        self._by_ufrag = {name: one for name, one in self._by_ufrag.items() if one is not owner}
        self._by_source = {source: one for source, one in self._by_source.items() if one is not owner}

    def send(self, data: bytes, to: Address) -> None:
        self._socket.sendto(data, to)

    def _read(self, now: float) -> None:
        for _ in range(_MOST_PER_POLL):
            try:
                data, source = self._socket.recvfrom(_DATAGRAM)
            except OSError:
                return
            address = (source[0], source[1])
            owner = self._by_source.get(address)
            if looks_like_stun(data):
                # The same address may belong to another call by now: a tab that was loaded anew.
                ufrag = addressed_ufrag(data)
                named = self._by_ufrag.get(ufrag)
                if named is None and owner is None and ufrag:
                    self._early.append((ufrag, data, address))
                if named is not None and named is not owner:
                    self._check(named, data, address, now)
                    continue
            if owner is not None:
                owner.receive(data, address, now)

    def _check(self, owner: BundleTransport, data: bytes, source: Address, now: float) -> None:
        owner.receive(data, source, now)
        if owner.ice.is_checked(source):
            self._by_source[source] = owner


class SharedPath:
    """One call's share of a :class:`SharedSocket`."""

    def __init__(self, shared: SharedSocket) -> None:
        self._shared = shared
        self._owner: BundleTransport | None = None
        self.port = shared.port

    def claim(self, ufrag: str, owner: BundleTransport) -> None:
        self._owner = owner
        self._shared.claim(ufrag, owner)

    def send(self, data: bytes, to: Address) -> None:
        self._shared.send(data, to)

    def close(self) -> None:
        if self._owner is not None:
            self._shared.forget(self._owner)
            self._owner = None
