"""The contract's plain values as JSON: numbers as they are, digests in hex, frame rates ``30000/1001``,
rectangles ``[x, y, width, height]``, choices by their word. docs/http.md shows the messages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

from visavis.avatar.v1.contract import ENUMS, FIELDS, REQUESTS, RESPONSES, Field
from visavis.frames import Rect

T = TypeVar("T")
Convert = Callable[[Any], Any]

NAMES: dict[type, str] = {kind: name for name, kind in (REQUESTS | RESPONSES).items()}
"""The ``type`` of each message."""

_RANGES = {
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 62) - 1),
    "int64": (1 - (1 << 62), (1 << 62) - 1),
}
_MISSING = object()


def encode(value: Any) -> dict[str, Any]:
    """One of the contract's values as a JSON object."""
    plain: dict[str, Any] = {}
    for name, convert in _ENCODERS[type(value)]:
        field = getattr(value, name)
        if field is not None:
            plain[name] = field if convert is None else convert(field)
    return plain


def encode_message(value: Any) -> str:
    """A text message of the socket: the object with its ``type``."""
    return json.dumps({"type": NAMES[type(value)], **encode(value)})


def decode(kind: type[T], told: Any) -> T:
    """A JSON object as the contract's value. Raises ``ValueError`` that says which field is wrong, and how."""
    if not isinstance(told, dict):
        raise ValueError("it must be a JSON object")
    values: dict[str, Any] = {}
    for name, required, optional, convert in _DECODERS[kind]:
        value = told.get(name, _MISSING)
        if value is _MISSING or (value is None and optional):
            if required:
                raise ValueError(f"{name} is missing")
            if optional:
                values[name] = None
            continue
        try:
            values[name] = convert(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return kind(**values)


def parse_message(text: str) -> tuple[str, dict[str, Any]]:
    """The ``type`` of a text message of the socket, and its JSON object. Raises ``ValueError``."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(told, dict):
        raise ValueError("it must be a JSON object")
    name = told.get("type")
    if not isinstance(name, str):
        raise ValueError("type is missing")
    return name, told


# --- one field ----------------------------------------------------------------------------------------------


class _Decoder(NamedTuple):
    name: str
    required: bool
    optional: bool
    convert: Convert


def _encoder(field: Field) -> Convert | None:
    if field.repeated:
        return sorted if field.kind == "string" else list
    convert: dict[str, Convert] = {"bytes": bytes.hex, "FrameRate": str, "Rect": list, "message": encode}
    return convert.get(field.kind)


def _decoder(field: Field) -> Convert:
    one = _one(field)
    if not field.repeated:
        return one
    if field.kind == "enum":  # those of a later version are left out
        words = ENUMS[field.of]
        return lambda told: tuple(word for word in _list(told) if isinstance(word, str) and word in words)
    gather = frozenset if field.kind == "string" else tuple
    return lambda told: gather(one(each) for each in _list(told))


def _one(field: Field) -> Convert:
    match field.kind:
        case "uint32" | "uint64" | "int64":
            return functools.partial(_whole, *_RANGES[field.kind])
        case "enum":
            return functools.partial(_word, ENUMS[field.of])
        case "message":
            return functools.partial(decode, field.of)
        case "FrameRate" if field.optional:
            return lambda told: None if told == "" else frame_rate(told)
    return {
        "bool": _truth,
        "string": _text,
        "bytes": _bytes,
        "FrameRate": frame_rate,
        "Rect": lambda told: Rect(*_wholes(told, 4)),
        "LoopJump": lambda told: _wholes(told, 2),
        "LoopSegment": _segment,
    }[field.kind]


def frame_rate(told: Any) -> Fraction:
    """``25``, ``29.97`` or ``30000/1001``. Raises ``ValueError``."""
    try:
        if isinstance(told, str) and len(told) <= 32:
            return Fraction(told)
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(f"a frame rate cannot be {str(told)[:32]!r}: write 25 or 30000/1001")


def _whole(low: int, high: int, told: Any) -> int:
    if type(told) is not int or not low <= told <= high:  # True and 1.0 are none
        raise ValueError(f"it must be a whole number from {low} to {high}")
    return told


def _wholes(told: Any, count: int) -> tuple[int, ...]:
    numbers = tuple(_whole(*_RANGES["uint32"], each) for each in _list(told))
    if len(numbers) != count:
        raise ValueError(f"it must be a list of {count} numbers")
    return numbers


def _segment(told: Any) -> tuple[int, str]:
    if len(_list(told)) != 2:
        raise ValueError("it must be a list of a number and a text")
    return _whole(*_RANGES["uint32"], told[0]), _text(told[1])


def _word(words: Mapping[str, int], told: Any) -> str:
    if not isinstance(told, str) or told not in words:
        raise ValueError(f"it must be {' or '.join(words)}")
    return told


def _truth(told: Any) -> bool:
    if not isinstance(told, bool):
        raise ValueError("it must be true or false")
    return told


def _text(told: Any) -> str:
    if not isinstance(told, str):
        raise ValueError("it must be a text")
    try:
        told.encode()
    except UnicodeEncodeError:
        raise ValueError("it is no valid text") from None
    return told


def _bytes(told: Any) -> bytes:
    try:
        if isinstance(told, str):
            return bytes.fromhex(told)
    except ValueError:
        pass
    raise ValueError("it must be hex digits")


def _list(told: Any) -> list[Any]:
    if not isinstance(told, list):
        raise ValueError("it must be a list")
    return told


_ENCODERS: dict[type, tuple[tuple[str, Convert | None], ...]] = {
    kind: tuple((field.name, _encoder(field)) for field in fields) for kind, fields in FIELDS.items()
}
_DECODERS: dict[type, tuple[_Decoder, ...]] = {
    kind: tuple(_Decoder(f.name, f.required, f.optional, _decoder(f)) for f in fields)
    for kind, fields in FIELDS.items()
}
