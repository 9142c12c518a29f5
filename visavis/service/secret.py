"""Settings that nobody must read in a log: passwords, keys, addresses with a token in them."""

from __future__ import annotations

import hmac
from typing import Any, Self
from urllib.parse import urlsplit


class Secret:
    """A text that shows as ``***`` wherever it is printed; ``reveal`` is the only way to it.

    A pydantic field may have this type: it takes text, and shows and writes ``***``.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._value

    def __str__(self) -> str:
        return "***" if self._value else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "replace"), other._value.encode("utf-8", "replace")
        )

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def _of(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("it must be text")
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls._of, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


class SecretUrl(Secret):
    """An address whose user, path and query may hold a token: only scheme, host and port are shown."""

    __slots__ = ()

    def __str__(self) -> str:
        if not self:
            return ""
        try:
            parts = urlsplit(self._value)
            host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
        except ValueError:
            return "***"
        return f"{parts.scheme}://{host}{port}/***"
