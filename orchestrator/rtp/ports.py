"""UDP socket pairs for RTP and RTCP out of a bounded range, always given back."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

_ATTEMPTS_EPHEMERAL = 50


class PortsExhausted(RuntimeError):
    """No free pair of ports is left in the configured range."""


@dataclass(eq=False, slots=True)
class PortPair:
    """An RTP socket on an even port and the RTCP socket beside it; both non-blocking."""

    rtp: socket.socket
    rtcp: socket.socket
    port: int
    _pool: PortPool | None

    def close(self) -> None:
        """Close both sockets and give the ports back; harmless when called again."""
        self.rtp.close()
        self.rtcp.close()
        if self._pool is not None:
            self._pool._give_back(self.port)
            self._pool = None


class PortPool:
    """Pairs between ``low`` and ``high`` inclusive, oldest freed first; ``low=0`` lets the kernel choose."""

    def __init__(self, host: str, low: int = 0, high: int = 0) -> None:
        self.host = host
        self._ephemeral = low == 0
        # Oldest first, so that late packets of an ended call rarely meet a new one.
        self._free: dict[int, None] = dict.fromkeys(range(low + low % 2, high, 2)) if low else {}
        self._used: set[int] = set()

    @property
    def in_use(self) -> int:
        """Pairs that are out."""
        return len(self._used)

    def open(self) -> PortPair:
        """Bind a pair; raises ``PortsExhausted``."""
        for port in [0] * _ATTEMPTS_EPHEMERAL if self._ephemeral else list(self._free):
            pair = self._bind(port)
            if pair is not None:
                self._free.pop(pair.port, None)
                self._used.add(pair.port)
                return pair
        raise PortsExhausted(
            f"no RTP port pair is free on {self.host}: widen the port range or allow fewer calls"
        )

    def _bind(self, port: int) -> PortPair | None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        if not port:
            # A socket that was bound to port 0 loses its port when its connection is dissolved.
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((self.host, 0))
                port = probe.getsockname()[1]
        rtp = socket.socket(family, socket.SOCK_DGRAM)
        rtcp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            rtp.bind((self.host, port))
            bound = rtp.getsockname()[1]
            if bound % 2:
                raise OSError(errno.EADDRINUSE, "odd port")
            rtcp.bind((self.host, bound + 1))
        except OSError as error:
            rtp.close()
            rtcp.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return None
        rtp.setblocking(False)
        rtcp.setblocking(False)
        return PortPair(rtp, rtcp, bound, self)

    def _give_back(self, port: int) -> None:
        self._used.discard(port)
        if not self._ephemeral:
            self._free[port] = None
