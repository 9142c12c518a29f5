"""The contract's plain values as protobuf messages."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.contract import ENUMS, FIELDS, REQUESTS, RESPONSES, Field
from visavis.frames import Rect

T = TypeVar("T")
Convert = Callable[[Any], Any]

_NAMES: dict[type, str] = {kind: name for name, kind in (REQUESTS | RESPONSES).items()}


def encode(value: Any) -> Any:
    """One of the contract's values as its message."""
    message, names, values, converts = _ENCODERS[type(value)]
    told = dict(zip(names, values(value), strict=True))
    for name, convert in converts:
        told[name] = None if told[name] is None else convert(told[name])
    return message(**told)


def encode_request(value: Any) -> pb.ConverseRequest:
    """One of a client's messages on the stream."""
    return pb.ConverseRequest(**{_NAMES[type(value)]: encode(value)})


def encode_response(value: Any) -> pb.ConverseResponse:
    """One of a server's messages on the stream."""
    return pb.ConverseResponse(**{_NAMES[type(value)]: encode(value)})


def decode(kind: type[T], message: Message) -> T:
    """A message as the contract's value. Raises ``ValueError`` that says which field is wrong, and how."""
    values, converts = _DECODERS[kind]
    if values is not None:
        return kind(*values(message))
    return kind(*(convert(message) for convert in converts))


def frame_rate(rate: pb.FrameRate) -> Fraction | None:
    """``None`` where nothing is said. Raises ``ValueError``."""
    if not rate.num and not rate.den:
        return None
    if not rate.num:
        raise ValueError("fps must not be 0: try 25/1")
    return Fraction(rate.num, rate.den or 1)


def word(enum: str, name: str, number: int) -> str:
    """The word of a choice in a field of this name. Raises ``ValueError`` where this version knows none."""
    words = _words(enum)
    if number not in words:
        known = " or ".join(text.upper() for text in ENUMS[enum])
        raise ValueError(f"{name} {number} is unknown: take {known}")
    return words[number]


# --- one field ----------------------------------------------------------------------------------------------


@functools.cache
def _words(enum: str) -> dict[int, str]:
    words = {number: text for text, number in ENUMS[enum].items()}
    return {0: next(iter(ENUMS[enum]))} | words


def _encoder_of(kind: type) -> tuple[Any, tuple[str, ...], Convert, tuple[tuple[str, Convert], ...]]:
    fields = FIELDS[kind]
    converts = ((f.name, _encoder(f)) for f in fields)
    return (
        getattr(pb, kind.__name__),
        tuple(f.name for f in fields),
        _getter(fields),
        tuple((name, convert) for name, convert in converts if convert is not None),
    )


def _getter(fields: tuple[Field, ...]) -> Convert:
    """All fields of an object at once, as a tuple."""
    names = [f.name for f in fields]
    get = operator.attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _encoder(field: Field) -> Convert | None:
    match field.kind:
        case "enum" if field.repeated:
            return lambda words: [ENUMS[field.of][each] for each in words]
        case "enum":
            return ENUMS[field.of].__getitem__
        case "string" if field.repeated:
            return sorted
    return {
        "message": encode,
        "FrameRate": lambda fps: pb.FrameRate(num=fps.numerator, den=fps.denominator),
        "Rect": lambda area: pb.Rect(x=area.x, y=area.y, width=area.width, height=area.height),
        "LoopJump": lambda jumps: [pb.LoopJump(**{"from": a, "to": b}) for a, b in jumps],
        "LoopSegment": lambda segments: [pb.LoopSegment(start=at, kind=kind) for at, kind in segments],
    }.get(field.kind)


def _decoder_of(kind: type) -> tuple[Convert | None, tuple[Convert, ...]]:
    """How all fields are read at once where they are mere numbers and texts, and one by one."""
    fields = FIELDS[kind]
    plain = not any(f.repeated or f.optional or f.kind in _READ for f in fields)
    return _getter(fields) if plain else None, tuple(_decoder(f) for f in fields)


def _decoder(field: Field) -> Convert:
    get, read = operator.attrgetter(field.name), _READ.get(field.kind)
    if field.repeated:
        gather = frozenset if field.kind == "string" else tuple
        if field.kind == "enum":  # those of a later version are left out
            words = _words(field.of)
            return lambda message: tuple(words[number] for number in get(message) if number in words)
        return lambda message: gather(read(field, each) if read else each for each in get(message))
    if read is None and not field.optional:
        return get
    return lambda message: _read(field, message, get(message), read)


def _read(field: Field, message: Message, told: Any, read: Callable[[Field, Any], Any] | None) -> Any:
    if field.optional and not message.HasField(field.name):
        return None
    return told if read is None else read(field, told)


def _rate(field: Field, told: pb.FrameRate) -> Fraction | None:
    rate = frame_rate(told)
    return Fraction(0) if rate is None and not field.optional else rate


_READ: dict[str, Callable[[Field, Any], Any]] = {
    "enum": lambda field, told: word(field.of, field.name, told),
    "message": lambda field, told: decode(cast("type[Any]", field.of), told),
    "FrameRate": _rate,
    "Rect": lambda _, told: Rect(told.x, told.y, told.width, told.height),
    "LoopJump": lambda _, told: (int(getattr(told, "from")), int(told.to)),  # `from` is a keyword
    "LoopSegment": lambda _, told: (int(told.start), str(told.kind)),
}

_ENCODERS = {kind: _encoder_of(kind) for kind in FIELDS}
_DECODERS = {kind: _decoder_of(kind) for kind in FIELDS}
