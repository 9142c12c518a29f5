"""Your own service over a WebSocket, one connection for each call. ``docs/conversation.md`` has the messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from orchestrator.assistants.base import AssistantError, CallFacts, Message, Piece, Reply, Tool, ToolUse
from orchestrator.assistants.model import parsed
from visavis.service.logs import Log
from visavis.service.secret import Secret

log = Log(__name__)

CONNECT_S = 5.0
SILENCE_S = 10.0
"""A reply of which nothing comes for so long is given up."""
_LARGEST = 1 << 20


class WebSocketDialogue:
    """One call's; it connects again with the next turn where the connection was lost."""

    language = ""
    tokens = 0

    def __init__(self, url: str, key: Secret, call: CallFacts, tools: Sequence[Tool], greeting: str) -> None:
        self.greeting = greeting
        self._url, self._key, self._call, self._tools = url, key, call, tools
        self._numbers = 0
        self._connection: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._replies: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}

    def reply(self, history: Sequence[Message], text: str) -> Reply:
        """See :class:`orchestrator.assistants.base.Dialogue`."""
        self._numbers += 1
        number = self._numbers

        def accept() -> None:
            task = asyncio.create_task(self._tell({"type": "accepted", "reply": number}))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

        return Reply(self._pieces(number, history, text), accept)

    async def close(self) -> None:
        """The call is over."""
        with contextlib.suppress(AssistantError):
            await self._tell({"type": "end"})
        if self._connection is not None:
            with contextlib.suppress(OSError, websockets.WebSocketException):
                await self._connection.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _pieces(
        self, number: int, history: Sequence[Message], text: str
    ) -> AsyncGenerator[Piece, None]:
        answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._replies[number] = answers
        done = False
        try:
            await self._connect()
            said = [{"role": each.role, "text": each.text} for each in history]
            await self._tell({"type": "turn", "reply": number, "text": text, "history": said})
            while not done:
                message = await self._next(answers)
                match message.get("type"):
                    case "text":
                        yield str(message.get("text", ""))
                    case "tool":
                        result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                        arguments = message.get("arguments")
                        yield ToolUse(
                            str(message.get("name", "")),
                            arguments if isinstance(arguments, dict) else {},
                            result,
                        )
                        told = {"type": "result", "reply": number, "id": message.get("id")}
                        await self._tell({**told, "result": await result})
                    case "done":
                        done = True
        finally:
            del self._replies[number]
            if not done:
                with contextlib.suppress(AssistantError):
                    await self._tell({"type": "dropped", "reply": number})

    async def _next(self, answers: asyncio.Queue[dict[str, Any] | None]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await answers.get()
        except TimeoutError:
            raise AssistantError(f"the assistant's service said nothing for {SILENCE_S:g} s") from None
        if message is None:
            raise AssistantError("the assistant's service closed the connection in mid-answer")
        return message

    async def _connect(self) -> None:
        async with self._connecting:
            if self._connection is not None:
                return
            key = self._key.reveal()
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            try:
                self._connection = await connect(
                    self._url, additional_headers=headers, open_timeout=CONNECT_S, max_size=_LARGEST
                )
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                raise AssistantError(
                    f"the assistant's service cannot be reached: {type(error).__name__}"
                ) from None
            self._reading = asyncio.create_task(self._read(self._connection))
            call = self._call
            tools = [
                {"name": each.name, "description": each.description, "parameters": each.parameters}
                for each in self._tools
            ]
            await self._tell(
                {
                    "type": "start",
                    "call_id": call.call_id,
                    "caller": call.caller,
                    "dialled": call.dialled,
                    "language": call.language,
                    "tools": tools,
                }
            )

    async def _tell(self, message: dict[str, Any]) -> None:
        if self._connection is None:
            return
        try:
            await self._connection.send(json.dumps(message))
        except (OSError, websockets.WebSocketException):
            raise AssistantError("the assistant's service has closed the connection") from None

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                message = parsed(text if isinstance(text, str) else text.decode("utf-8", "replace"))
                number = message.get("reply")
                if isinstance(number, int) and number in self._replies:
                    self._replies[number].put_nowait(message)
        except (OSError, websockets.WebSocketException, AssistantError) as error:
            # Why the service closed is in its own words, which may be those of the call.
            reason = str(error) if isinstance(error, AssistantError) else type(error).__name__
            log.warning("assistant_connection_lost", call=self._call.call_id, reason=reason)
        finally:
            self._connection = None
            for answers in self._replies.values():
                answers.put_nowait(None)


class WebSocketAssistant:
    """Serves every call with one service."""

    name = "websocket"

    def __init__(self, url: str, key: Secret, greeting: str) -> None:
        self._url, self._key, self._greeting = url, key, greeting

    def dialogue(self, call: CallFacts, tools: Sequence[Tool]) -> WebSocketDialogue:
        """See :class:`orchestrator.assistants.base.Assistant`."""
        return WebSocketDialogue(self._url, self._key, call, tools, self._greeting)

    async def close(self) -> None:
        """Dialogues hold the connections."""
