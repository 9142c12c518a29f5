"""Who answers a caller: an assistant serves all calls, and holds one dialogue with each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


class AssistantError(Exception):
    """An assistant that cannot answer now, or cannot be used: one clear sentence."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; an assistant's is what the caller has heard of it."""

    role: Literal["caller", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What a dialogue may know of its call; ``transfer_to`` "" means that nobody can be reached."""

    call_id: str
    caller: str = ""
    dialled: str = ""
    language: str = "en"
    transfer_to: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """Something an assistant can do besides talk; ``parameters`` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class ToolUse:
    """An assistant wants something done. ``result`` is what came of it, as text, once it is done; a reply that is
    never spoken never has its tools used."""

    name: str
    arguments: dict[str, Any]
    result: asyncio.Future[str]


Piece = str | ToolUse
"""Of a reply: a stretch of its text, or something to do once the text before it has been said."""


@dataclass(frozen=True, slots=True)
class Reply:
    """``pieces`` come as they are written, and raise :class:`AssistantError`; closing them ends the work at once.
    ``accept`` is called when the reply is going to be spoken: before that it may be dropped for another one."""

    pieces: AsyncGenerator[Piece, None]
    accept: Callable[[], None] = lambda: None


class Dialogue(Protocol):
    """One call's."""

    @property
    def greeting(self) -> str:
        """Said when the call is answered; "" for nothing."""
        ...

    @property
    def language(self) -> str:
        """In which it writes; "" is the call's."""
        ...

    @property
    def tokens(self) -> int:
        """Of a model, used so far in this dialogue: as it tells, or about so many; 0 where nobody counts."""
        ...

    def reply(self, history: Sequence[Message], text: str) -> Reply:
        """An answer to ``text``, which is not in the history yet. Returns at once."""
        ...

    async def close(self) -> None:
        """The call is over."""
        ...


class Assistant(Protocol):
    """``name`` is what settings call it."""

    @property
    def name(self) -> str: ...

    def dialogue(self, call: CallFacts, tools: Sequence[Tool]) -> Dialogue:
        """Begin to talk with a caller."""
        ...

    async def close(self) -> None:
        """No call needs it any more."""
        ...
