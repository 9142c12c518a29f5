"""What the assistants behind a language model share: the prompt, the stream of a reply, the rounds of tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from orchestrator.assistants.base import AssistantError, CallFacts, Message, Piece, Reply, Tool, ToolUse
from visavis.service.secret import Secret
from visavis.service.text import read_json

PROMPT = (
    "You talk with somebody on the phone. What you write is spoken: answer in one to three short sentences, no "
    "lists, headings, markup or emoji, and write numbers as they are said. What the caller says comes from speech "
    "recognition, with its mistakes. An answer that ends in the middle of a sentence was interrupted there."
)
MOST_ROUNDS = 4
"""Requests for one reply, each after tools of the one before were used."""
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_KEPT = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=120.0)
"""Connections between requests: a caller speaks, and is answered, in less time than they are kept."""
_END_S = 0.1
"""How long the end of a response is waited for behind the end of its stream: then its connection is let go of."""
_LONGEST_LINE = 1 << 20
_LETTERS_PER_TOKEN = 4
DONE: dict[str, Any] = {"type": "[DONE]"}


@dataclass(frozen=True)
class ModelSettings:
    """``url`` is the root of the service; ``greeting`` "" says nothing, ``max_tokens`` are those of one reply."""

    url: str
    model: str
    key: Secret
    prompt: str = ""
    greeting: str = ""
    max_tokens: int = 300


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model wants a tool used."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """A request has used so many tokens so far, besides those that were told before."""

    tokens: int


class ModelService(Protocol):
    """One vendor's protocol. ``transcript`` is in its own form, as ``begin`` and ``add`` make it."""

    def begin(self, history: Sequence[Message], text: str) -> list[dict[str, Any]]: ...

    def add(self, transcript: list[dict[str, Any]], text: str, calls: Sequence[tuple[ToolCall, str]]) -> None:
        """What the model wrote, and what came of each tool."""
        ...

    def stream(
        self, transcript: list[dict[str, Any]], tools: Sequence[Tool]
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """Text as it is written, then the tools; what it costs, where that is told. Raises
        :class:`AssistantError`."""
        ...

    async def close(self) -> None: ...


class ModelDialogue:
    """One call's: it holds nothing but ``tokens``, since each request has the whole conversation."""

    language = ""

    def __init__(self, service: ModelService, tools: Sequence[Tool], greeting: str) -> None:
        self.greeting = greeting
        self.tokens = 0
        self._service, self._tools = service, tools

    def reply(self, history: Sequence[Message], text: str) -> Reply:
        """See :class:`orchestrator.assistants.base.Dialogue`."""
        return Reply(self._pieces(self._service.begin(history, text)))

    async def close(self) -> None:
        """Nothing is held."""

    async def _pieces(self, transcript: list[dict[str, Any]]) -> AsyncGenerator[Piece, None]:
        for _ in range(MOST_ROUNDS):
            text, used, before = "", list[tuple[ToolCall, str]](), self.tokens
            asked = len(json.dumps(transcript)) // _LETTERS_PER_TOKEN
            async with aclosing(_understood(self._service.stream(transcript, self._tools))) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Usage):
                        self.tokens += piece.tokens
                    elif isinstance(piece, str):
                        text += piece
                        yield piece
                    else:
                        result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                        yield ToolUse(piece.name, piece.arguments, result)
                        used.append((piece, await result))
            if self.tokens == before:
                self.tokens += asked + len(text) // _LETTERS_PER_TOKEN
            if not used:
                return
            self._service.add(transcript, text, used)


async def _understood(
    pieces: AsyncGenerator[str | ToolCall | Usage, None],
) -> AsyncGenerator[str | ToolCall | Usage, None]:
    """The same; what is no message of the protocol raises :class:`AssistantError`, which tells nothing of it."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except (ValueError, LookupError, TypeError, AttributeError):
        raise AssistantError("the assistant's service sent something that is no answer") from None


class ModelAssistant:
    """Serves every call with one model."""

    def __init__(self, name: str, service: ModelService, greeting: str) -> None:
        self.name = name
        self._service, self._greeting = service, greeting

    def dialogue(self, call: CallFacts, tools: Sequence[Tool]) -> ModelDialogue:
        """See :class:`orchestrator.assistants.base.Assistant`."""
        return ModelDialogue(self._service, tools, self._greeting)

    async def close(self) -> None:
        """Let go of connections."""
        await self._service.close()


def http_client(settings: ModelSettings, headers: dict[str, str]) -> httpx.AsyncClient:
    """Connections to the service, kept between turns."""
    return httpx.AsyncClient(base_url=settings.url, headers=headers, timeout=_TIMEOUT, limits=_KEPT)


async def events(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of a stream of server-sent events, up to its end, or to ``DONE``, where it says that it is
    whole. Raises :class:`AssistantError`."""
    try:
        async with aclosing(await _asked(client, path, body)) as response:
            if response.status_code != 200:
                busy = " (too many requests)" if response.status_code == 429 else ""
                raise AssistantError(f"the assistant's service answered {response.status_code}{busy}")
            lines = response.aiter_lines()
            async for line in lines:
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or not data:
                    continue
                if data == "[DONE]":
                    await _read_out(lines)
                    yield DONE
                    return
                yield parsed(data)
    except httpx.TimeoutException:
        raise AssistantError("the assistant's service did not answer in time") from None
    except httpx.HTTPError as error:
        raise AssistantError(f"the assistant's service broke off: {type(error).__name__}") from None


async def _asked(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    """The response, its body unread. Asks once more where the service closes the connection instead of answering,
    as it may with one that was kept."""
    request = client.build_request("POST", path, json=body)
    try:
        return await client.send(request, stream=True)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
        return await client.send(request, stream=True)


async def _read_out(lines: AsyncIterator[str]) -> None:
    """Read a response to its end, since its connection serves no other request before."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_END_S):
            async for _ in lines:
                pass


def parsed(text: str) -> dict[str, Any]:
    """A JSON object. Raises :class:`AssistantError`."""
    try:
        value = read_json(text) if len(text) <= _LONGEST_LINE else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise AssistantError("the assistant's service sent something that is no JSON object")
    return value


def tool_arguments(text: str) -> dict[str, Any]:
    """The arguments of a tool, which models write as JSON; "" is none. Raises :class:`AssistantError`."""
    return parsed(text) if text.strip() else {}
