"""Addresses and plain sockets: parsing `host:port`, our own address towards a peer."""

from __future__ import annotations

import socket
from typing import cast

from orchestrator.sip.transport.flow import Address

UDP_BUFFER = 1_048_576


def split_address(text: str) -> Address:
    """`host:port` or `[v6]:port`. Raises ValueError in a sentence."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{text!r} is not host:port, such as 0.0.0.0:5060 or [::]:5060")
    return host.strip("[]"), int(port)


def udp_socket(host: str, port: int) -> socket.socket:
    """A bound UDP socket. IPv6 sockets take IPv6 only, so that both families can listen on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def route_source(remote: str) -> str | None:
    """Our address towards `remote` by the routing table; None without a route."""
    family = socket.AF_INET6 if ":" in remote else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((remote, 9))
        except OSError:
            return None
        return cast(str, probe.getsockname()[0])
