"""STUN and ICE-lite against the vectors of RFC 5769, and against checks that lie."""

from __future__ import annotations

import contextlib
import os
import random

import pytest

from orchestrator.rtp import stun
from orchestrator.rtp.ice import MOST_CHECKED, IceCredentials, IceLite, addressed_ufrag

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = bytes.fromhex(
    "00010058 2112a442 b7e7a701bc34d686fa87dfae"
    "80220010 5354554e207465737420636c69656e74 00240004 6e0001ff 80290008 932ff9b151263b36"
    "00060009 6576746a3a68367659202020 00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004 e57a3bcf"
)
RESPONSE_4 = bytes.fromhex(
    "0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 00200008 0001a147e112a643"
    "00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96"
)
RESPONSE_6 = bytes.fromhex(
    "01010048 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220"
    "00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c"
)
OWN = IceCredentials("ours", "p" * 24)
PEER = ("192.0.2.9", 4000)


def test_the_sample_request() -> None:
    message = stun.parse(REQUEST)
    assert message.kind == stun.BINDING_REQUEST
    assert message.transaction == TRANSACTION
    assert message.value(stun.USERNAME) == b"evtj:h6vY"
    assert message.value(stun.PRIORITY) == bytes.fromhex("6e0001ff")
    assert message.is_authentic(PASSWORD)
    assert not message.is_authentic(b"another")
    assert addressed_ufrag(REQUEST) == "evtj"


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (RESPONSE_4, ("192.0.2.1", 32853)),
        (RESPONSE_6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_sample_responses(data: bytes, address: tuple[str, int]) -> None:
    message = stun.parse(data)
    assert message.is_authentic(PASSWORD)
    value = message.value(stun.XOR_MAPPED_ADDRESS)
    assert value is not None
    assert stun.read_xor_address(value, message.transaction) == address
    assert stun.xor_address(address, message.transaction) == value


def test_an_address_of_a_socket_for_both_families_is_the_browser_s_own() -> None:
    value = stun.xor_address(("::ffff:192.0.2.1", 32853), bytes(12))
    assert stun.read_xor_address(value, bytes(12)) == ("192.0.2.1", 32853)


@pytest.mark.parametrize("data", [REQUEST, RESPONSE_4, RESPONSE_6], ids=["request", "IPv4", "IPv6"])
def test_a_changed_or_shortened_message_is_none(data: bytes) -> None:
    fingerprint = range(len(data) - 8, len(data) - 4)  # without it a message is one as well
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :]
        if at not in fingerprint:
            with pytest.raises(stun.StunError):
                stun.parse(changed)
        with pytest.raises(stun.StunError):
            stun.parse(data[:at])


def check(
    user: str = "ours:theirs",
    password: str = OWN.password,
    *,
    nominate: bool = False,
    more: int | None = None,
) -> bytes:
    attributes = [(stun.USERNAME, user.encode()), (stun.PRIORITY, bytes(4))]
    if nominate:
        attributes.append((stun.USE_CANDIDATE, b""))
    if more is not None:
        attributes.append((more, bytes(8)))
    return stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, password.encode())


def agent() -> IceLite:
    ice = IceLite()
    ice.agree(OWN, "theirs")
    return ice


def test_a_check_is_answered_and_its_source_selected() -> None:
    ice = agent()
    assert not ice.is_checked(PEER)
    request = check()
    answer = ice.receive(request, PEER, 7.0)
    assert answer is not None
    response = stun.parse(answer)
    assert (response.kind, response.transaction) == (stun.BINDING_SUCCESS, request[8:20])
    assert response.is_authentic(OWN.password.encode())
    mapped = response.value(stun.XOR_MAPPED_ADDRESS)
    assert mapped is not None
    assert stun.read_xor_address(mapped, response.transaction) == PEER
    assert (ice.selected, ice.heard) == (PEER, 7.0)
    assert ice.is_checked(PEER)


def test_the_nominated_address_is_selected() -> None:
    ice = agent()
    other, third = ("192.0.2.9", 4001), ("198.51.100.1", 9)
    ice.receive(check(), PEER, 1.0)
    ice.receive(check(nominate=True), other, 2.0)
    ice.receive(check(), third, 3.0)
    assert ice.selected == other
    assert ice.is_checked(third)


@pytest.mark.parametrize(
    "data",
    [
        check(password="q" * 24),
        check("ours:others"),
        check("other:theirs"),
        check("ours"),
        REQUEST,
        RESPONSE_4,
        b"",
        bytes(20),
    ],
    ids=["password", "other peer", "other us", "no peer", "request", "response", "nothing", "zeros"],
)
def test_what_does_not_authenticate_gets_no_answer(data: bytes) -> None:
    ice = agent()
    assert ice.receive(data, PEER, 1.0) is None
    assert ice.selected is None
    assert ice.heard == float("-inf")
    assert not ice.is_checked(PEER)
    assert ice.refused == 1


def test_unknown_attributes_and_role_conflicts_are_errors() -> None:
    ice = agent()
    for more, status in ((0x0033, 420), (stun.ICE_CONTROLLED, 487)):
        answer = ice.receive(check(more=more), PEER, 1.0)
        assert answer is not None
        response = stun.parse(answer)
        assert response.kind == stun.BINDING_ERROR
        code = response.value(stun.ERROR_CODE)
        assert code is not None
        assert 100 * code[2] + code[3] == status
    assert not ice.is_checked(PEER)
    assert ice.receive(check(more=stun.ICE_CONTROLLING), PEER, 1.0) is not None


def test_after_a_restart_both_credentials_hold_and_the_new_ones_select() -> None:
    ice, new = agent(), IceCredentials.fresh()
    ice.receive(check(nominate=True), PEER, 1.0)
    ice.agree(new, "again")
    moved = ("203.0.113.5", 77)
    assert ice.receive(check(), PEER, 2.0) is not None
    assert ice.receive(check(f"{new.ufrag}:again", new.password, nominate=True), moved, 3.0) is not None
    assert ice.selected == moved
    ice.agree(IceCredentials.fresh(), "thirdly")
    assert ice.receive(check(), PEER, 4.0) is None


def test_a_peer_of_many_addresses_takes_little_memory() -> None:
    ice = agent()
    for port in range(1000, 1000 + 4 * MOST_CHECKED):
        ice.receive(check(), ("192.0.2.9", port), 1.0)
    assert not ice.is_checked(("192.0.2.9", 1000))
    assert ice.is_checked(("192.0.2.9", 1000 + 4 * MOST_CHECKED - 1))


def test_nothing_that_comes_raises_anything_else() -> None:
    rng = random.Random(8)
    ice = agent()
    for _ in range(3000):
        data = bytearray(rng.choice([REQUEST, RESPONSE_6, check(nominate=True)]))
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data
        with contextlib.suppress(stun.StunError):
            stun.parse(bytes(data))
        ice.receive(bytes(data), PEER, 1.0)
        addressed_ufrag(bytes(data))
