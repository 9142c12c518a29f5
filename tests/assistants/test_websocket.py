"""One's own service over a WebSocket; the service of these tests is a real one on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from orchestrator.assistants import websocket
from orchestrator.assistants.base import AssistantError, CallFacts, Message, Tool, ToolUse
from orchestrator.assistants.websocket import WebSocketAssistant, WebSocketDialogue
from visavis.service.logs import JsonFormatter
from visavis.service.secret import Secret

Behaviour = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


@contextlib.asynccontextmanager
async def talking(behave: Behaviour) -> AsyncIterator[tuple[WebSocketDialogue, list[dict[str, Any]]]]:
    got: list[dict[str, Any]] = []

    async def handle(connection: ServerConnection) -> None:
        async for text in connection:
            message = json.loads(text)
            got.append(message)
            if message["type"] == "turn":
                await behave(connection, message)

    async with serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assistant = WebSocketAssistant(f"ws://127.0.0.1:{port}/talk", Secret("k"), "Hello.")
        talk = assistant.dialogue(CallFacts("c1", "sip:a@b", "demo"), [Tool("hang_up", "End.")])
        try:
            yield talk, got
        finally:
            await talk.close()


async def send(connection: ServerConnection, **message: Any) -> None:
    await connection.send(json.dumps(message))


async def echo(connection: ServerConnection, turn: dict[str, Any]) -> None:
    for word in ("You", " said", f" {turn['text']}"):
        await send(connection, type="text", reply=turn["reply"], text=word)
    await send(connection, type="done", reply=turn["reply"])


async def test_a_turn_goes_there_and_its_answer_comes_back_in_pieces() -> None:
    async with talking(echo) as (talk, got):
        for text in ("hi", "ho"):
            reply = talk.reply([Message("assistant", "Hello.")], text)
            assert [piece async for piece in reply.pieces] == ["You", " said", f" {text}"]
            reply.accept()
            await asyncio.sleep(0.05)
    assert [message["type"] for message in got] == ["start", "turn", "accepted", "turn", "accepted", "end"]
    assert got[0]["caller"] == "sip:a@b" and got[0]["tools"][0]["name"] == "hang_up"
    assert got[1] == {
        "type": "turn",
        "reply": 1,
        "text": "hi",
        "history": [{"role": "assistant", "text": "Hello."}],
    }


async def test_half_a_surrogate_pair_is_no_text() -> None:
    """It could be put into no transcript, event or answer of the API."""

    async def behave(connection: ServerConnection, turn: dict[str, Any]) -> None:
        await send(connection, type="text", reply=turn["reply"], text="so \ud83d \U0001f600 \ud800")
        await send(connection, type="done", reply=turn["reply"])

    async with talking(behave) as (talk, _):
        pieces = [piece async for piece in talk.reply([], "hi").pieces]
        assert pieces == ["so ? \U0001f600 ?"]


async def test_a_tool_is_used_and_its_result_told() -> None:
    async def behave(connection: ServerConnection, turn: dict[str, Any]) -> None:
        number = turn["reply"]
        await send(connection, type="tool", reply=number, id="x", name="hang_up", arguments={"a": 1})
        await send(connection, type="done", reply=number)

    async with talking(behave) as (talk, got):
        async for piece in talk.reply((), "bye").pieces:
            assert isinstance(piece, ToolUse) and (piece.name, piece.arguments) == ("hang_up", {"a": 1})
            piece.result.set_result("done")
        await asyncio.sleep(0.05)
    assert {"type": "result", "reply": 1, "id": "x", "result": "done"} in got


async def test_a_reply_that_is_dropped_is_told() -> None:
    async def behave(connection: ServerConnection, turn: dict[str, Any]) -> None:
        await send(connection, type="text", reply=turn["reply"], text="Well")

    async with talking(behave) as (talk, got):
        pieces = talk.reply((), "hm").pieces
        assert await anext(pieces) == "Well"
        await pieces.aclose()
        await asyncio.sleep(0.05)
    assert {"type": "dropped", "reply": 1} in got


async def closes(connection: ServerConnection, turn: dict[str, Any]) -> None:
    await send(connection, type="text", reply=turn["reply"], text="We")
    await connection.close()


async def nonsense(connection: ServerConnection, turn: dict[str, Any]) -> None:
    await connection.send("{half")


async def silent(connection: ServerConnection, turn: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(
    ("behave", "message"),
    [(closes, "in mid-answer"), (nonsense, "in mid-answer"), (silent, "said nothing for 0.2 s")],
)
async def test_faults_are_one_sentence_each_and_the_next_turn_connects_again(
    monkeypatch: pytest.MonkeyPatch, behave: Behaviour, message: str
) -> None:
    monkeypatch.setattr(websocket, "SILENCE_S", 0.2)
    faulty = True

    async def first_faulty(connection: ServerConnection, turn: dict[str, Any]) -> None:
        await (behave if faulty else echo)(connection, turn)

    async with talking(first_faulty) as (talk, _):
        with pytest.raises(AssistantError, match=message):
            async for _ in talk.reply((), "hm").pieces:
                pass
        faulty = False
        assert [piece async for piece in talk.reply((), "x").pieces] == ["You", " said", " x"]


async def test_no_word_of_a_service_that_closes_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def behave(connection: ServerConnection, turn: dict[str, Any]) -> None:
        await connection.close(1011, f"cannot answer: {turn['text']}")

    async with talking(behave) as (talk, _):
        with pytest.raises(AssistantError, match="in mid-answer"):
            async for _ in talk.reply((), "my secret").pieces:
                pass
    (ours,) = (
        JsonFormatter().format(each) for each in caplog.records if each.name.startswith("orchestrator")
    )
    assert "assistant_connection_lost" in ours and "secret" not in ours


async def test_a_service_that_is_not_there_is_one_sentence() -> None:
    talk = WebSocketAssistant("ws://127.0.0.1:9/", Secret(), "").dialogue(CallFacts("c1"), ())
    with pytest.raises(AssistantError, match="cannot be reached"):
        async for _ in talk.reply((), "hm").pieces:
            pass
    await talk.close()
