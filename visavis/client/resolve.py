"""Addresses behind a DNS name: every A and AAAA record, as a headless Service lists its pods."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from visavis.service.logs import Log

log = Log("visavis.client.resolve")

Resolver = Callable[[str, Sequence[str]], Awaitable[list[str]]]
"""Addresses of a target, given those known; :func:`resolve` is one."""


def split_target(target: str) -> tuple[str, int]:
    """Host and port of ``dns:///name:port``. Raises ``ValueError`` with what is expected."""
    host, _, port = target.removeprefix("dns:").lstrip("/").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{target} is not of the form dns:///name:port")
    return host.strip("[]"), int(port)


async def resolve(target: str, known: Sequence[str]) -> list[str]:
    """``host:port`` for every address of ``dns:///name:port``; ``known`` where the resolver does not answer.

    A name that exists without addresses gives none.
    """
    host, port = split_target(target)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        if e.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return []
        log.warning("name_not_resolved", host=host, reason=str(e))
        return list(known)
    addresses = {
        f"[{at[0]}]:{port}" if family == socket.AF_INET6 else f"{at[0]}:{port}"
        for family, _, _, _, at in found
    }
    return sorted(addresses)
