"""Assistants behind language models, against services on the loopback that follow a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from orchestrator.assistants import model
from orchestrator.assistants import openai as openai_service
from orchestrator.assistants.anthropic import AnthropicService
from orchestrator.assistants.base import AssistantError, CallFacts, Message, Tool, ToolUse
from orchestrator.assistants.model import DONE, ModelAssistant, ModelDialogue, ModelSettings
from orchestrator.assistants.openai import OpenAIService
from tests.assistants.fake_service import Answer, FakeService, event, fake_service
from visavis.service.secret import Secret

SERVICES = {"openai": OpenAIService, "anthropic": AnthropicService}
TOOLS = [
    Tool("weather", "Tells the weather.", {"type": "object", "properties": {"town": {"type": "string"}}})
]
HISTORY = [Message("assistant", "Hello."), Message("caller", "Hi."), Message("assistant", "Yes?")]


def openai(*deltas: dict[str, Any], end: bool = True) -> list[str | float]:
    pieces = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return [*pieces, *([event("[DONE]")] if end else [])]


def anthropic(*blocks: str | dict[str, Any], end: bool = True) -> list[str | float]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"role": "assistant", "content": []}}
    ]
    for index, block in enumerate(blocks):
        if isinstance(block, str):
            start: dict[str, Any] = {"type": "text", "text": ""}
            deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": part} for part in block.split("|")]
        else:
            start = {"type": "tool_use", "id": "t1", "name": block["name"], "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in block["json"].split("|")]
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": each} for each in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_stop"}] if end else []
    return [event(each, each["type"]) for each in events]


TEXT = {
    "openai": openai({"role": "assistant", "content": ""}, {"content": "It is "}, {"content": "nine."}),
    "anthropic": anthropic("It is |nine."),
}
USE = {
    "openai": openai(
        {"content": "Let me see."},
        {"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"town": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Bonn"}'}}]},
    ),
    "anthropic": anthropic("Let me see.", {"name": "weather", "json": '{"town": |"Bonn"}'}),
}


@contextlib.asynccontextmanager
async def dialogue(kind: str, *answers: Answer) -> AsyncIterator[tuple[FakeService, ModelDialogue]]:
    async with fake_service(*answers) as fake:
        settings = ModelSettings(fake.url, "some-model", Secret("sk-secret"), "Be kind.")
        assistant = ModelAssistant(kind, SERVICES[kind](settings), settings.greeting)
        try:
            yield fake, assistant.dialogue(CallFacts("c1"), TOOLS)
        finally:
            await assistant.close()


async def written(talk: ModelDialogue, text: str = "What time is it?") -> list[str]:
    return [piece async for piece in talk.reply(HISTORY, text).pieces if isinstance(piece, str)]


@pytest.mark.parametrize("kind", SERVICES)
async def test_a_reply_is_streamed_with_the_whole_conversation(kind: str) -> None:
    async with dialogue(kind, Answer(TEXT[kind])) as (fake, talk):
        assert await written(talk) == ["It is ", "nine."]
        body, headers = fake.asked[0]
    assert body["model"] == "some-model" and body["stream"] is True
    said = [(each["role"], each["content"]) for each in body["messages"]]
    asked = [("user", "Hi."), ("assistant", "Yes?"), ("user", "What time is it?")]
    if kind == "openai":
        assert fake.paths == ["/v1/chat/completions"] and headers["authorization"] == "bearer sk-secret"
        assert said == [("system", "Be kind."), ("assistant", "Hello."), *asked]
        assert body["tools"][0]["function"]["name"] == "weather"
    else:
        assert fake.paths == ["/v1/messages"] and headers["x-api-key"] == "sk-secret"
        begun = [
            ("user", "(The call is answered.)"),
            ("assistant", "Hello."),
        ]  # the first is a caller's there
        assert said == [*begun, *asked] and body["system"][0]["text"] == "Be kind."
        assert body["tools"][0]["input_schema"]["type"] == "object"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://us.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", "max_tokens"),
        ("https://notopenai.example.com/v1", "max_tokens"),
    ],
)
async def test_the_longest_reply_is_named_as_the_service_knows_it(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    sent: list[dict[str, Any]] = []

    async def none(client: object, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        sent.append(body)
        yield DONE

    monkeypatch.setattr(openai_service, "events", none)
    service = OpenAIService(ModelSettings(url, "m", Secret("k"), max_tokens=77))
    assert [piece async for piece in service.stream([], ())] == []
    await service.close()
    assert {key: value for key, value in sent[0].items() if key.startswith("max_")} == {name: 77}


USAGE = {
    "openai": [*TEXT["openai"][:-1], event({"choices": [], "usage": {"total_tokens": 42}}), event("[DONE]")],
    "anthropic": [
        event({"type": "message_start", "message": {"usage": {"input_tokens": 30, "output_tokens": 1}}}),
        *TEXT["anthropic"][1:-1],
        event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 12}}),
        TEXT["anthropic"][-1],
    ],
}


@pytest.mark.parametrize("kind", SERVICES)
async def test_tokens_are_counted_as_the_service_tells_or_by_length(kind: str) -> None:
    async with dialogue(kind, Answer(USAGE[kind]), Answer(TEXT[kind])) as (_, talk):
        assert talk.tokens == 0
        await written(talk)
        assert talk.tokens == 42
        await written(talk)
        assert 42 + 20 < talk.tokens < 42 + 200


@pytest.mark.parametrize("kind", SERVICES)
async def test_a_tool_is_used_and_its_result_goes_back(kind: str) -> None:
    async with dialogue(kind, Answer(USE[kind]), Answer(TEXT[kind])) as (fake, talk):
        said = list[str]()
        async for piece in talk.reply((), "How is the weather in Bonn?").pieces:
            if isinstance(piece, ToolUse):
                assert (piece.name, piece.arguments) == ("weather", {"town": "Bonn"})
                piece.result.set_result("sunny")
            else:
                said.append(piece)
        messages = fake.asked[1][0]["messages"]
    assert said == ["Let me see.", "It is ", "nine."]
    if kind == "openai":
        assert messages[-1] == {"role": "tool", "tool_call_id": "t1", "content": "sunny"}
        assert messages[-2]["tool_calls"][0]["function"]["arguments"] == '{"town": "Bonn"}'
    else:
        assert messages[-1]["content"][0] == {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}
        assert messages[-2]["content"][1]["input"] == {"town": "Bonn"}


@pytest.mark.parametrize("kind", SERVICES)
async def test_a_model_that_wants_tools_for_ever_is_stopped(kind: str) -> None:
    async with dialogue(kind, Answer(USE[kind])) as (fake, talk):
        async for piece in talk.reply((), "Go on.").pieces:
            if isinstance(piece, ToolUse):
                piece.result.set_result("more")
        assert len(fake.asked) == model.MOST_ROUNDS


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=429), "answered 429 .too many requests."),
        (Answer(status=500), "answered 500"),
        (Answer([event('{"choices": [{"del')]), "no JSON object"),
        (Answer([event('{"choices": "a secret", "type": "x", "index": "a secret"}')]), "that is no answer"),
        (Answer([event('{"error": {"message": "x"}, "type": "error"}')]), "reports an error"),
        (Answer([5.0]), "did not answer in time"),
        (Answer(["data: {"], cut=True), "broke off"),
    ],
)
async def test_faults_are_one_sentence_each(
    monkeypatch: pytest.MonkeyPatch, kind: str, answer: Answer, message: str
) -> None:
    monkeypatch.setattr(model, "_TIMEOUT", httpx.Timeout(0.3))
    async with dialogue(kind, answer) as (_, talk):
        with pytest.raises(AssistantError, match=message) as raised:
            await written(talk)
    assert "sk-secret" not in str(raised.value)


@pytest.mark.parametrize("kind", SERVICES)
async def test_an_answer_that_breaks_off_in_mid_word_is_a_fault_after_what_was_written(kind: str) -> None:
    said = list[str]()
    cut = {
        "openai": openai({"content": "It is ni"}, end=False),
        "anthropic": anthropic("It is ni", end=False),
    }
    async with dialogue(kind, Answer(cut[kind])) as (_, talk):
        with pytest.raises(AssistantError, match="in mid-answer"):
            async for piece in talk.reply((), "Time?").pieces:
                said.append(str(piece))
    assert said == ["It is ni"]


async def test_an_answer_with_a_reason_to_end_is_whole_also_where_nobody_says_done() -> None:
    end = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    async with dialogue("openai", Answer([*openai({"content": "Nine."}, end=False), end])) as (_, talk):
        assert await written(talk) == ["Nine."]


async def test_a_reply_that_is_dropped_closes_the_connection_at_once() -> None:
    endless: list[str | float] = []
    for _ in range(200):
        endless += [*openai({"content": "word "}, end=False), 0.01]
    async with dialogue("openai", Answer(endless)) as (fake, talk):
        async with aclosing(talk.reply((), "Talk.").pieces) as pieces:
            assert await anext(pieces) == "word "
        async with asyncio.timeout(5):
            while not fake.closed_early:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("pause", [0.0, 0.03])
async def test_one_connection_serves_request_after_request(
    kind: str, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_END_S", 10.0)  # however slow this machine is
    async with dialogue(kind, Answer([*TEXT[kind], pause])) as (fake, talk):
        for _ in range(3):
            assert await written(talk) == ["It is ", "nine."]
        assert len(fake.asked) == 3 and fake.connections == 1


async def test_a_response_that_does_not_end_costs_its_connection_and_no_time() -> None:
    async with dialogue("openai", Answer([*TEXT["openai"], 30.0])) as (fake, talk):
        async with asyncio.timeout(5):
            for _ in range(2):
                assert await written(talk) == ["It is ", "nine."]
        assert fake.connections == 2


@pytest.mark.parametrize("kind", SERVICES)
async def test_a_kept_connection_that_the_service_closes_as_it_is_asked_is_replaced(kind: str) -> None:
    async with dialogue(kind, Answer(TEXT[kind])) as (fake, talk):
        assert await written(talk) == ["It is ", "nine."]
        fake.hangs_up = True
        assert await written(talk) == ["It is ", "nine."]
        assert (len(fake.asked), fake.connections) == (3, 2)


async def test_a_service_that_is_not_there_is_one_sentence() -> None:
    settings = ModelSettings("http://127.0.0.1:9/v1", "m", Secret())
    assistant = ModelAssistant("openai", OpenAIService(settings), "")
    with pytest.raises(AssistantError, match="broke off: ConnectError"):
        await written(assistant.dialogue(CallFacts("c1"), ()))
    await assistant.close()
