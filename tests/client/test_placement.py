"""Which server a conversation goes to: news and a clock made by hand."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from visavis.client.discovery import resolve, split_target
from visavis.client.model import Capacity
from visavis.client.placement import Placement


def capacity(
    free: int = 4,
    sessions: int = 0,
    ready: bool = True,
    draining: bool = False,
    *avatars: str,
    slots: int = 4,
) -> Capacity:
    return Capacity(slots, free, sessions, 100, ready, draining, frozenset(avatars))


def placement(**servers: Capacity) -> Placement:
    place = Placement(servers)
    for address, news in servers.items():
        place.on_capacity(address, news)
    return place


def test_nothing_is_chosen_before_a_server_has_answered() -> None:
    place = Placement(["a"])
    assert place.choose("anna", 0.0) is None
    place.on_capacity("a", None)  # it answers, but tells no capacity
    assert place.choose("anna", 0.0) == "a"


def test_not_ready_and_draining_servers_are_not_chosen() -> None:
    place = placement(a=capacity(ready=False), b=capacity(draining=True))
    assert place.choose("anna", 0.0) is None


def test_room_before_prepared_before_load() -> None:
    full = capacity(0, 4, True, False, "anna")
    assert placement(a=full, b=capacity(1, 9)).choose("anna", 0.0) == "b"
    assert placement(a=capacity(4, 4, True, False, "anna"), b=capacity()).choose("anna", 0.0) == "a"
    # a crowd of more than a conversation for each slot is worse than having the avatar copied
    assert placement(a=capacity(4, 5, True, False, "anna"), b=capacity()).choose("anna", 0.0) == "b"
    assert placement(a=capacity(4, 3), b=capacity(4, 2)).choose("anna", 0.0) == "b"
    assert placement(a=capacity(1, 3), b=capacity(3, 3)).choose("anna", 0.0) == "b"
    assert placement(a=full).choose("anna", 0.0) == "a"  # full is better than nothing


def test_our_own_streams_count_before_the_server_tells() -> None:
    place = placement(a=capacity(slots=8, free=8), b=capacity(slots=4, free=4))
    chosen = []
    for _ in range(12):
        address = place.choose("anna", 0.0)
        assert address is not None
        place.on_opened(address, "x")
        chosen.append(address)
    assert chosen.count("a") == 8 and chosen.count("b") == 4
    place.on_closed("a")
    assert place.choose("anna", 0.0) == "a"


def test_sixty_calls_spread_evenly_over_eight_servers() -> None:
    place = placement(**{f"s{i}": capacity(slots=6, free=6) for i in range(8)})
    for _ in range(60):
        address = place.choose("anna", 0.0)
        assert address is not None
        place.on_opened(address, "x")
    counts = [s.streams for s in place.servers.values()]
    assert min(counts) >= 7 and max(counts) <= 8


def test_a_bad_server_is_left_alone_longer_each_time_and_tried_again() -> None:
    place = placement(a=capacity(), b=capacity(4, 50))
    place.on_failure("a", "stalled", 10.0)
    assert place.choose("anna", 10.0) == "b"
    assert place.retry_at(10.0) == 12.0
    assert place.choose("anna", 12.0) == "a"
    place.on_failure("a", "stalled", 12.0)
    assert place.choose("anna", 15.9) == "b" and place.choose("anna", 16.0) == "a"
    place.on_served("a")
    place.on_failure("a", "stalled", 20.0)
    assert place.choose("anna", 22.0) == "a"


def test_conversations_that_fail_together_are_one_failure() -> None:
    place = placement(
        a=capacity(), b=capacity(4, 50), c=capacity(4, 50), d=capacity(4, 50), e=capacity(4, 50)
    )
    for late in range(8):
        place.on_failure("a", "stalled", 10.0 + late / 100)
    assert place.choose("anna", 11.9) != "a" and place.choose("anna", 12.0) == "a"


def test_where_half_of_the_servers_are_silent_the_fault_is_ours() -> None:
    place = placement(**{name: capacity() for name in "abcdef"})
    for name in "abcde":
        place.on_failure(name, "stalled", 10.0)
    alone = {name: server.left_alone_until for name, server in place.servers.items() if name != "f"}
    assert alone == {"a": 12.0, "b": 12.0, "c": 11.0, "d": 11.0, "e": 11.0}


def test_the_only_server_is_tried_again_every_second() -> None:
    place = placement(a=capacity())
    for i in range(6):
        now = 10.0 * i
        place.on_failure("a", "stalled", now)
        assert place.choose("anna", now + 0.99) is None
        assert place.choose("anna", now + 1.0) == "a"


def test_a_server_that_is_back_is_used_at_once() -> None:
    place = placement(a=capacity())
    place.on_failure("a", "unavailable", 0.0)
    place.on_lost("a")
    assert place.choose("anna", 0.3) is None and place.retry_at(0.3) is None
    place.on_capacity("a", capacity())
    assert place.choose("anna", 0.3) == "a"


def test_a_stalled_server_is_not_believed_when_it_says_it_is_well() -> None:
    place = placement(a=capacity(), b=capacity(4, 50))
    place.on_failure("a", "stalled", 0.0)
    place.on_capacity("a", capacity())
    assert place.choose("anna", 0.1) == "b"


def test_servers_come_and_go() -> None:
    place = placement(a=capacity(), b=capacity())
    assert place.set_addresses(["b", "c"]) == (["c"], ["a"])
    for news in (place.on_lost, place.on_closed, place.on_served):
        news("a")  # late news of one that is gone
    place.on_failure("a", "full", 0.0)
    assert place.choose("anna", 0.0) == "b"
    assert place.choose("anna", 0.0, exclude=["b"]) is None


def test_an_avatar_in_use_belongs_on_two_servers() -> None:
    place = placement(a=capacity(4, 0, True, False, "anna"), b=capacity(4, 5), c=capacity(4, 2))
    assert place.spare("anna", 0.0) == ("c", "a")
    place.on_opened("c", "anna")
    assert place.spare("anna", 0.0) is None
    assert place.spare("berta", 0.0) == ("a", None)
    assert placement(a=capacity(4, 0, True, False, "anna")).spare("anna", 0.0) is None


def test_an_avatar_is_copied_to_an_idler_server() -> None:
    holders = {"a": capacity(4, 2, True, False, "anna"), "b": capacity(4, 3, True, False, "anna")}
    assert placement(**holders, c=capacity(), d=capacity(4, 1)).spare("anna", 0.0) == ("c", "a")
    assert placement(**holders, c=capacity(4, 1)).spare("anna", 0.0) is None


def test_the_next_turn_goes_to_an_idler_server_until_the_load_is_even() -> None:
    prepared = {f"s{i}": capacity(6, n, True, False, "anna", slots=6) for i, n in enumerate((9, 8, 8, 0))}
    place = placement(**prepared)
    moves = 0
    while movable := [a for a in place.servers if place.better(a, "anna", 0.0)]:
        there = place.better(movable[0], "anna", 0.0)
        assert there is not None
        place.on_opened(there, "anna")
        place.on_closed(movable[0])
        moves += 1
    assert moves <= 8
    counts = [s.sessions for s in place.servers.values()]
    assert sum(counts) == 25 and max(counts) - min(counts) <= 1


def test_nothing_moves_to_a_server_that_is_no_better() -> None:
    busy = capacity(4, 3, True, False, "anna")
    assert placement(a=busy, b=capacity(4, 2, True, False, "anna")).better("a", "anna", 0.0) is None
    assert placement(a=busy, b=capacity()).better("a", "anna", 0.0) is None  # it has not the avatar
    assert placement(a=busy, b=capacity(0, 0, True, False, "anna")).better("a", "anna", 0.0) is None
    place = placement(a=busy, b=capacity(4, 1, True, False, "anna"))
    assert place.better("a", "anna", 0.0) == "b" and place.better("gone", "anna", 0.0) is None
    place.on_failure("b", "stalled", 0.0)
    assert place.better("a", "anna", 0.0) is None


def test_dns_targets_are_read_or_refused() -> None:
    assert split_target("dns:///inference:50051") == ("inference", 50051)
    assert split_target("dns:inference.local:1") == ("inference.local", 1)
    for bad in ("dns:///inference", "dns:///:5", "dns:///a:0", "dns:///a:x"):
        with pytest.raises(ValueError, match="dns:///name:port"):
            split_target(bad)


async def test_every_address_of_a_name_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Any = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 5)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 5)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 5, 0, 0)),
    ]

    async def found(*args: Any, **options: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    assert await resolve("dns:///x:5", []) == ["10.0.0.1:5", "10.0.0.2:5", "[fd00::1]:5"]
    answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    assert await resolve("dns:///x:5", ["10.0.0.1:5"]) == ["10.0.0.1:5"]  # what was known holds
    answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    assert await resolve("dns:///x:5", ["10.0.0.1:5"]) == []


def test_conversations_opened_at_one_moment_spread() -> None:
    placement = Placement(["a", "b", "c"])
    for address in ("a", "b", "c"):
        placement.on_capacity(address, None)
    chosen = []
    for _ in range(6):
        address = placement.choose("", 0.0)
        assert address is not None
        placement.on_opening(address, 1)
        chosen.append(address)
    assert sorted(chosen) == ["a", "a", "b", "b", "c", "c"]
