"""TCP connections to us, taken so that no number of silent ones stops the process: limits come before TLS.

asyncio's own servers take whatever comes, hold each while it says nothing, and complain hundreds of times a second
when descriptors run out. Here a connection is judged by its address before a byte of TLS is spoken, a handshake
has five seconds, and the longest silent connection makes room for a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable

from visavis.service.logs import Log

log = Log(__name__)

HANDSHAKE_S = 5.0
BACKLOG = 1024
AT_ONCE = 4
"""Connections taken between two turns of what else goes on."""
SPARE = 1024
"""Connections beyond the limit that are told so, rather than closed at once."""
YOUNG_S = 0.1
"""How long a connection may be silent before it makes room for another."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def raise_descriptor_limit() -> None:
    """Take as many descriptors as this process may have (the soft limit is often 1024)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Guest:
    """One connection from its first moment on. Its protocol says when it `spoke` and when it is `gone`."""

    def __init__(self, limits: ConnectionLimits, host: str, now: float, *, excess: bool) -> None:
        self.host = host
        self.since = now
        self.excess = excess
        """Whether there are too many: it is told so, where its protocol can, and closed."""
        self.spoke = excess
        self.transport: asyncio.Transport | None = None
        """Where its handshake is over."""
        self.abort: Callable[[], object] = lambda: None
        self._limits = limits

    def gone(self) -> None:
        """It is closed; telling it twice does no harm."""
        self._limits.forget(self)


class ConnectionLimits:
    """How many connections there may be, in all and from one address (0: as many), over one port or several.

    Never more than half of the process's descriptors, so that the other half is there for what serves them.
    """

    def __init__(self, most: int, per_host: int = 0) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = 2**30 if soft == resource.RLIM_INFINITY else soft
        self.most = min(most, soft // 2)
        self._taken = min(self.most + SPARE, soft * 3 // 4)
        self._per_host = per_host
        self._guests: dict[Guest, None] = {}  # the oldest first
        self._hosts: Counter[str] = Counter()
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._guests)

    def admit(self, host: str, now: float) -> Guest | None:
        """A guest, or None where its address has enough or there are far too many."""
        if self._per_host and self._hosts[host] >= self._per_host:
            self._sweep(now)
            if self._hosts[host] >= self._per_host:
                return None
        if len(self._guests) >= self.most:
            self._sweep(now)
        if len(self._guests) >= self.most:
            self._make_room(now)
        if len(self._guests) >= self._taken:
            return None
        guest = Guest(self, host, now, excess=len(self._guests) >= self.most)
        self._guests[guest] = None
        self._hosts[host] += 1
        return guest

    def forget(self, guest: Guest) -> None:
        """It is closed."""
        if guest in self._guests:
            del self._guests[guest]
            self._hosts[guest.host] -= 1
            if not self._hosts[guest.host]:
                del self._hosts[guest.host]

    def _make_room(self, now: float) -> None:
        """The longest silent connection goes, be it in the midst of its handshake."""
        silent = next((each for each in self._guests if not each.spoke), None)
        if silent is not None and now - silent.since >= YOUNG_S:
            silent.abort()
            self.forget(silent)

    def _sweep(self, now: float) -> None:
        """Forget, once a second, those whose protocol was replaced by one that does not tell."""
        if now - self._swept < 1.0:
            return
        self._swept = now
        for guest in [each for each in self._guests if each.transport and each.transport.is_closing()]:
            self.forget(guest)


class Acceptor:
    """One listening socket. `make` gets each guest and returns its protocol; `admits` judges addresses."""

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[Guest], asyncio.Protocol],
        limits: ConnectionLimits,
        *,
        tls: ssl.SSLContext | None = None,
        admits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._listener = listener
        self._make = make
        self._limits = limits
        self._tls = tls
        self._admits = admits
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reserve = os.open(os.devnull, os.O_RDONLY)
        self._complained = float("-inf")
        self._closed = False
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Take no more, end handshakes; connections that are open stay."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        if self._reserve >= 0:
            os.close(self._reserve)
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Returns when no handshake is left."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._turn_away(error)
                return
            host = address[0]
            guest = self._limits.admit(host, time.monotonic()) if self._admits(host) else None
            if guest is None:
                sock.close()
                continue
            task = self._loop.create_task(self._take(sock, guest))
            guest.abort = task.cancel
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, sock: socket.socket, guest: Guest) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: self._make(guest),
                sock,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_S if self._tls else None,
            )
            guest.transport, guest.abort = transport, transport.abort
        except (OSError, asyncio.CancelledError):  # ssl.SSLError and TimeoutError are OSErrors
            sock.close()
            guest.gone()

    def _turn_away(self, error: OSError) -> None:
        """No descriptor is left: one connection is closed with the help of the one that is kept for it."""
        now = time.monotonic()
        if now - self._complained >= 1.0:
            self._complained = now
            log.warning("out_of_descriptors", reason=error.strerror, connections=len(self._limits))
        if self._reserve < 0:
            return
        os.close(self._reserve)
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            self._reserve = -1
