"""When a datagram really came."""

from __future__ import annotations

import fcntl
import struct
import time

_SIOCGSTAMPNS = 0x8907  # linux/sockios.h


def arrival(descriptor: int) -> float:
    """When the kernel took the datagram that was read last, however late this process looked; monotonic seconds."""
    now, wall = time.monotonic(), time.time()
    try:
        seconds, nanoseconds = struct.unpack("qq", fcntl.ioctl(descriptor, _SIOCGSTAMPNS, bytes(16)))
    except OSError:  # the first one: from here on it takes the time
        return now
    age = wall - seconds - nanoseconds * 1e-9
    return now - age if 0 < age < 10 else now
