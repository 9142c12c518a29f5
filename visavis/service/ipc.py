"""Messages between processes of ours: a dataclass each, framed for a stream of bytes, without I/O.

On the wire: the lengths of head and payload (big-endian ``u32``); the head, a JSON list of the class's name and
its fields in their order; the field ``payload`` as it is (PCM, an image). Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import operator
import struct
import types
import typing
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Generic, TypeVar

LIMIT = 64 << 20
"""Bytes in one message, where its codec says nothing else."""
_LENGTHS = struct.Struct("!II")

M = TypeVar("M")


class BadMessage(ValueError):
    """Bytes that are no message; the next one can be read."""


class BadFrame(BadMessage):
    """Lengths that no message has: where the next one would begin is not known."""


class Codec(Generic[M]):
    """The messages of one conversation: dataclasses.

    Their fields may be JSON's own types, ``bytes``, ``Fraction``, enums, tuples, lists, frozen sets of JSON's
    types, dictionaries by text, dataclasses, and any of these or ``None``. Raises ``TypeError`` for others.
    """

    def __init__(self, *kinds: type[Any], limit: int = LIMIT) -> None:
        self._limit = limit
        self._forms = {kind: _Form(kind, "payload") for kind in kinds}
        self._by_name = {kind.__name__: form for kind, form in self._forms.items()}

    def encode(self, message: M) -> bytes:
        """A message as it travels; raises ``BadMessage`` where it is longer than the other side takes."""
        kind = type(message)
        head = _to_json([kind.__name__, *self._forms[kind].values(message)]).encode()
        payload: bytes = getattr(message, "payload", b"")
        size = len(head) + len(payload)
        if size > self._limit:
            raise BadMessage(f"{kind.__name__} has {size} bytes, at most {self._limit} are taken")
        return _LENGTHS.pack(len(head), len(payload)) + head + payload

    def decoder(self) -> Decoder[M]:
        """For one stream."""
        return Decoder(self._by_name, self._limit)


class Decoder(Generic[M]):
    """Iterates over the complete messages of what it was fed so far.

    Raises :class:`BadMessage` for one that is none, after which it may be iterated again, and :class:`BadFrame`.
    """

    def __init__(self, forms: dict[str, _Form], limit: int) -> None:
        self._forms = forms
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Decoder[M]:
        """Add bytes of the stream."""
        self._buffer += data
        return self

    def __iter__(self) -> Decoder[M]:
        return self

    def __next__(self) -> M:
        buffer = self._buffer
        if len(buffer) < _LENGTHS.size:
            raise StopIteration
        size, payload_size = _LENGTHS.unpack_from(buffer)
        if size + payload_size > self._limit:
            raise BadFrame(f"a message of {size + payload_size} bytes, at most {self._limit} are taken")
        end = _LENGTHS.size + size + payload_size
        if len(buffer) < end:
            raise StopIteration
        with memoryview(buffer) as view:
            head = bytes(view[_LENGTHS.size : _LENGTHS.size + size])
            payload = bytes(view[_LENGTHS.size + size : end]) if payload_size else b""
        del buffer[:end]
        try:
            name, *values = _from_json(head.decode())
            message: M = self._forms[name].build(values, payload)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise BadMessage(f"not a message: {type(error).__name__}: {error}") from error
        return message


class _Form:
    """How the values of a dataclass travel: all but that of the field ``apart``."""

    def __init__(self, kind: type[Any], apart: str = "") -> None:
        hints = typing.get_type_hints(kind)
        names = [item.name for item in dataclasses.fields(kind)]
        self._kind = kind
        self._apart = names.index(apart) if apart in names else None
        names = [name for name in names if name != apart]
        self.values = _getter(names)
        made = ((place, _converter(hints[name])) for place, name in enumerate(names))
        self._converters = [(place, convert) for place, convert in made if convert is not None]

    def build(self, values: list[Any], payload: bytes = b"") -> Any:
        for place, convert in self._converters:
            values[place] = convert(values[place])
        if self._apart is not None:
            values.insert(self._apart, payload)
        return self._kind(*values)


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


@functools.cache
def _nested(kind: type[Any]) -> _Form:
    return _Form(kind)


def _plain(value: Any) -> Any:
    """What JSON has for a value that it does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _nested(type(value)).values(value)
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} cannot be sent to another process")


_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_plain).encode
_from_json = json.JSONDecoder().decode


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """What turns a value from JSON into one of this type; ``None`` where it is one already."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _optional(hint, [_converter(each) for each in arguments if each is not types.NoneType])
    if origin in (list, frozenset) or arguments[1:] == (...,):
        return _collection(origin, _converter(arguments[0]))
    if origin is tuple:
        return _tuple(arguments)
    if origin is dict and (each := _converter(arguments[1])):
        return lambda value: {key: each(item) for key, item in value.items()}
    if hint is bytes:
        return bytes.fromhex
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _nested(hint).build
    if isinstance(hint, type) and issubclass(hint, Fraction | enum.Enum):
        return hint
    if origin in (dict, typing.Literal) or hint in (str, int, float, bool, list, dict, Any):
        return None
    raise TypeError(f"a field of type {hint} cannot be sent to another process")


def _collection(kind: Any, each: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if each is None:
        return None if kind is list else kind
    return lambda value: kind(map(each, value))


def _optional(hint: Any, kinds: list[Callable[[Any], Any] | None]) -> Callable[[Any], Any] | None:
    if not any(kinds):
        return None
    (convert,) = kinds if len(kinds) == 1 else (None,)
    if convert is None:
        raise TypeError(f"JSON does not tell the types of {hint} apart")
    return lambda value: None if value is None else convert(value)


def _tuple(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    places = [(place, made) for place, hint in enumerate(arguments) if (made := _converter(hint))]
    if not places:
        return tuple

    def convert(value: list[Any]) -> tuple[Any, ...]:
        for place, made in places:
            value[place] = made(value[place])
        return tuple(value)

    return convert
