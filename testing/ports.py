"""Ports for processes that are told theirs, outside the range from which the system hands out its own.

A port found by binding to 0 is one that any outgoing connection may be given before its owner binds it
(Linux: 32768 to 60999, ``ip_local_port_range``); these are not.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections import deque

_SINGLE = range(10_000, 20_000)
_BLOCKS = range(20_000, 30_000)
_draw = random.Random()
_given: deque[range] = deque(maxlen=16)  # told, perhaps not bound yet


def _is_free(port: int) -> bool:
    """Whether no socket of any address has it, neither UDP nor TCP."""
    with contextlib.ExitStack() as sockets:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            probe = sockets.enter_context(socket.socket(socket.AF_INET, kind))
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def _take(among: range, count: int) -> int:
    for _ in range(1000):
        first = _draw.randrange(among.start, among.stop - count, 2)
        ports = range(first, first + count)
        told = any(ports.start < given.stop and given.start < ports.stop for given in _given)
        if not told and all(map(_is_free, ports)):
            _given.append(ports)
            return first
    raise OSError(f"no {count} free ports in {among.start} to {among.stop - 1}: stop what holds them")


def free_port() -> int:
    """A port free for UDP and TCP, not one of the last given out; raises ``OSError`` when there is none."""
    return _take(_SINGLE, 1)


def free_ports(count: int) -> int:
    """The first, an even one, of ``count`` ports in a row as RTP wants them; raises ``OSError`` likewise."""
    return _take(_BLOCKS, count)
