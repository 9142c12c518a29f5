"""Messages between processes: they survive the wire, whatever pieces they come in, and nonsense is told."""

from __future__ import annotations

import enum
import json
import struct
import typing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import pytest

from visavis.service.ipc import BadFrame, BadMessage, Codec


class Mood(enum.Enum):
    CALM = "calm"


@dataclass(frozen=True, slots=True)
class Keys:
    name: str
    secret: bytes


@dataclass(frozen=True, slots=True)
class Everything:
    number: int
    rate: Fraction
    keys: Keys | None
    flags: frozenset[str]
    address: tuple[str, int]
    rows: list[tuple[int, tuple[int, int] | None, str | None]]
    frames: tuple[Fraction, ...]
    by_name: dict[str, Keys]
    mood: Mood
    how: Literal["crop", "contain"]
    anything: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sound:
    call_id: str
    payload: bytes
    position: int = 0


@dataclass(frozen=True, slots=True)
class Over:
    pass


Message = Everything | Sound | Over
codec = Codec[Message](*typing.get_args(Message))
SAMPLE: list[Message] = [
    Everything(
        -1,
        Fraction(30000, 1001),
        Keys("AES", b"\xff\x00"),
        frozenset({"a", "b"}),
        ("10.0.0.1", 4000),
        [(1, (2, 3), None), (4, None, "late")],
        (Fraction(1), Fraction(1, 3)),
        {"video": Keys("n", b"")},
        Mood.CALM,
        "crop",
        {"k": [1, None, 0.5]},
    ),
    Everything(0, Fraction(25), None, frozenset(), ("", 0), [], (), {}, Mood.CALM, "contain"),
    Sound("c", bytes(range(256)) * 100, 7),
    Sound("zwölf \udc80", b""),
    Over(),
]
WIRE = b"".join(codec.encode(message) for message in SAMPLE)


@pytest.mark.parametrize("piece", [1, 7, 4096, len(WIRE)])
def test_messages_survive_any_cut_with_their_types(piece: int) -> None:
    decoder = codec.decoder()
    got = [each for at in range(0, len(WIRE), piece) for each in decoder.feed(WIRE[at : at + piece])]
    assert got == SAMPLE
    assert isinstance(got[0], Everything) and isinstance(got[0].rows[0], tuple)


def frame(head: Any, payload: bytes = b"") -> bytes:
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("!II", len(raw), len(payload)) + raw + payload


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"[" * 100_000,
        7,
        {},
        [],
        ["Unknown"],
        [["Sound"], "c", 1],
        ["Sound"],
        ["Sound", "c", 1, 2],
        ["Everything", 1],
        ["Everything", 1, "no rate", None, [], ["", 0], [], [], {}, "calm", "crop", {}],
        ["Everything", 1, "25", ["AES", "no hexadecimal"], [], ["", 0], [], [], {}, "calm", "crop", {}],
        ["Everything", 1, "25", None, [], ["", 0], [], [], {}, "furious", "crop", {}],
    ],
)
def test_nonsense_is_told_and_the_next_message_is_read(head: Any) -> None:
    decoder = codec.decoder().feed(codec.encode(Over()) + frame(head) + WIRE)
    assert next(decoder) == Over()
    with pytest.raises(BadMessage) as told:
        next(decoder)
    assert not isinstance(told.value, BadFrame)
    assert list(decoder) == SAMPLE


def test_a_message_that_is_too_long_is_taken_at_neither_end() -> None:
    short = Codec[Message](Sound, limit=1000)
    with pytest.raises(BadMessage, match=r"Sound has 10.. bytes, at most 1000 are taken"):
        short.encode(Sound("c", bytes(1000)))
    decoder = short.decoder().feed(codec.encode(Sound("c", bytes(1000)))[:8])
    with pytest.raises(BadFrame, match="at most 1000"):
        next(decoder)


def test_what_cannot_travel_is_no_message() -> None:
    @dataclass
    class Odd:
        where: Any = None

    Odd.__annotations__["where"] = object
    with pytest.raises(TypeError, match="cannot be sent"):
        Codec[Odd](Odd)
    Odd.__annotations__["where"] = Keys | Fraction
    with pytest.raises(TypeError, match="apart"):
        Codec[Odd](Odd)
    Odd.__annotations__["where"] = Any
    with pytest.raises(TypeError, match="object cannot be sent"):
        Codec[Odd](Odd).encode(Odd(object()))
