"""Networks of a test's own: Linux namespaces on one bridge, with NAT between them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str, given: str = "") -> None:
    """One command of iproute2 or nftables; raises ``RuntimeError`` with what it said."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def needed() -> None:
    """Skip where no namespaces can be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install {package}")


class Namespaces:
    """Namespaces by short names, deleted at the end of ``with``; the loopback is up in each."""

    def __init__(self) -> None:
        self._prefix = f"vis{secrets.token_hex(2)}"
        self._names: list[str] = []
        self._links = 0

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(self, *exc: object) -> None:
        for name in self._names:
            run("ip", "netns", "del", self.full(name))

    def full(self, name: str) -> str:
        """What ``ip netns`` calls it."""
        return f"{self._prefix}{name}"

    def add(self, name: str) -> None:
        """A namespace."""
        run("ip", "netns", "add", self.full(name))
        self._names.append(name)
        self.inside(name, "ip", "link", "set", "lo", "up")

    def inside(self, name: str, *command: str, given: str = "") -> None:
        """Run a command there."""
        run("ip", "netns", "exec", self.full(name), *command, given=given)

    def link(self, one: str, address: str, other: str, other_address: str) -> tuple[str, str]:
        """A cable; an address "" leaves that end without one. Returns the names of both ends."""
        self._links += 1
        ends = (f"{self._prefix}{self._links}a", f"{self._prefix}{self._links}b")
        run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, name, own in ((ends[0], one, address), (ends[1], other, other_address)):
            run("ip", "link", "set", end, "netns", self.full(name))
            if own:
                self.inside(name, "ip", "addr", "add", own, "dev", end)
            self.inside(name, "ip", "link", "set", end, "up")
        return ends

    def bridge(self, name: str, address: str, members: dict[str, str]) -> None:
        """A switch in ``name``, itself at ``address``, with a cable to each member at its address."""
        self.inside(name, "ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        self.inside(name, "ip", "addr", "add", address, "dev", "br0")
        self.inside(name, "ip", "link", "set", "br0", "up")
        for member, own in members.items():
            end, _ = self.link(name, "", member, own)
            self.inside(name, "ip", "link", "set", end, "master", "br0")

    def route(self, name: str, gateway: str) -> None:
        """The default route."""
        self.inside(name, "ip", "route", "add", "default", "via", gateway)

    def forward(self, name: str, rules: str) -> None:
        """A router with these nftables rules in chains of a nat table."""
        self.inside(name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.inside(name, "nft", "-f", "-", given=f"table ip nat {{\n{rules}\n}}\n")

    @contextlib.contextmanager
    def entered(self, name: str) -> Iterator[None]:
        """Sockets and processes that are made meanwhile by this thread belong there, for good."""
        with (
            Path("/proc/thread-self/ns/net").open() as before,
            Path(f"/run/netns/{self.full(name)}").open() as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


MASQUERADE = "chain out {{ type nat hook postrouting priority 100; {match} masquerade; }}"


def masquerade(match: str) -> str:
    """Source NAT as home routers and Docker do it."""
    return MASQUERADE.format(match=match)


def publish(ports: str, to: str) -> str:
    """Destination NAT of these UDP ports, as for a container's."""
    return (
        "chain in { type nat hook prerouting priority -100; "
        f"ip daddr != {to} udp dport {{ {ports} }} dnat to {to}; }}"
    )
