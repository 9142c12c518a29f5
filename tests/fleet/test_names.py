"""Inference servers found through a DNS server of one's own choice: a real one, on UDP."""

from __future__ import annotations

import pytest

from orchestrator.nameserver import Nameserver, resolver_of, split_address
from testing.nameserver import NameServer

TARGET = "dns:///inference.visavis.test:50051"
KNOWN = ["127.0.0.9:50051"]


async def test_a_name_shrinks_grows_and_fails() -> None:
    async with NameServer("inference.visavis.test", ["127.0.0.12", "127.0.0.11"]) as server:
        ask = Nameserver(server.address)
        assert await ask(TARGET, KNOWN) == ["127.0.0.11:50051", "127.0.0.12:50051"]
        server.addresses = {"127.0.0.13"}
        assert await ask(TARGET, KNOWN) == ["127.0.0.13:50051"]
        server.addresses = set()
        assert await ask(TARGET, KNOWN) == []  # the name is there and lists nobody
        assert await ask("dns:///another.visavis.test:1", KNOWN) == []
        server.fault = "servfail"
        assert await ask(TARGET, KNOWN) == KNOWN  # what was known holds
        asked = server.asked
        assert asked >= 8


async def test_a_silent_server_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.nameserver.LIFETIME_S", 0.3)
    async with NameServer("inference.visavis.test") as server:
        server.fault = "silent"
        assert await Nameserver(server.address)(TARGET, KNOWN) == KNOWN
        assert server.asked


def test_addresses_of_dns_servers_are_read_or_refused() -> None:
    assert split_address("10.96.0.10") == ("10.96.0.10", 53)
    assert split_address("127.0.0.1:5353") == ("127.0.0.1", 5353)
    assert split_address("fd00::a") == ("fd00::a", 53)
    assert split_address("[fd00::a]:5353") == ("fd00::a", 5353)
    for bad in ("kube-dns", "10.96.0.10:", "10.96.0.10:0", "10.96.0.10:x", ":53"):
        with pytest.raises(ValueError, match="not a DNS server"):
            split_address(bad)
    assert resolver_of("") is None
