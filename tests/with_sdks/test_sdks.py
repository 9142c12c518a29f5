"""The vendors' own clients against the services that we test with: they ask as we do, and read what we read."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anthropic
import numpy as np
import openai
import pytest
from deepgram import AsyncDeepgramClient
from deepgram.environment import DeepgramClientEnvironment
from elevenlabs.client import ElevenLabs
from elevenlabs.core.unchecked_base_model import construct_type
from elevenlabs.types import AudioOutput, FinalOutput, VoiceSettings

from orchestrator.assistants.anthropic import AnthropicService
from orchestrator.assistants.base import Message, Tool
from orchestrator.assistants.model import ModelSettings, ToolCall
from orchestrator.assistants.openai import OpenAIService
from orchestrator.listening.deepgram import Deepgram
from orchestrator.listening.openai import OpenAISpeechToText
from orchestrator.listening.stt import SttSettings, pcm16
from orchestrator.speech.elevenlabs import ElevenLabsVoice
from orchestrator.speech.openai import OpenAIVoice
from orchestrator.speech.service import TtsSettings
from tests.assistants.fake_service import Answer, fake_service
from tests.assistants.test_models import USE
from tests.support.scripted import http_service, script, websocket_service
from visavis.service.secret import Secret

SECOND = np.full(16_000, 0.1, np.float32)
TEXT = "We are open."

# Their clients leave sockets and deprecations of their own behind.
pytestmark = [pytest.mark.filterwarnings("ignore")]


def asked(path: str) -> tuple[str, dict[str, list[str]]]:
    url = urlsplit(path)
    return url.path, parse_qs(url.query)


async def test_deepgram() -> None:
    async with websocket_service(script("deepgram")) as service:
        ours = Deepgram(SttSettings("deepgram", service.url, "key")).transcriber("en", 8000)
        ours.feed(SECOND)
        found = await ours.words(SECOND)
        await ours.close()
        came, service.came = service.came, []
        root = service.url.removesuffix("/v1")
        environment = DeepgramClientEnvironment(
            base=service.http, production=root, agent=root, agent_rest=root
        )
        client = AsyncDeepgramClient(api_key="key", environment=environment)
        query = {name: values[0] for name, values in asked(service.paths[0])[1].items()}
        async with client.listen.v1.connect(**query) as socket:
            await socket.send_media(next(each for each in came if isinstance(each, bytes)))
            await socket.send_finalize()
            async for message in socket:
                if getattr(message, "type", "") == "Results" and message.from_finalize:
                    break
            best = message.channel.alternatives[0]
            await socket.send_close_stream()
        assert best.transcript == found.text == "When are you open?"
        assert [each.punctuated_word for each in best.words] == [each.text for each in found.words]
        assert [round(1000 * each.start) for each in best.words] == [each.began_ms for each in found.words]
        assert asked(service.paths[1]) == asked(service.paths[0])
        assert service.headers[1]["authorization"] == service.headers[0]["authorization"]
        controls = [each["type"] for each in service.came if isinstance(each, dict)]
        assert controls == [each["type"] for each in came if isinstance(each, dict)]


async def test_elevenlabs() -> None:
    async with websocket_service(script("elevenlabs_any")) as service:
        ours = ElevenLabsVoice(TtsSettings(service.url, Secret("key"), "", "a voice"))
        sound = b"".join([each.pcm.tobytes() async for each in ours.speak(TEXT, "en")])
        await ours.close()
        path, query = asked(service.paths[0])
        first = service.came[0]
    lines = script("elevenlabs_any")
    # Their client triggers generation in its own way, and reads the same answers.
    lines[1] = {"direction": "in", "frame": {"text": "We are open. "}}
    async with websocket_service(lines[:1] + lines[1:]) as service:
        client = ElevenLabs(api_key="key", base_url=service.http.removesuffix("/v1"))
        client.text_to_speech._ws_base_url = service.url.removesuffix("/v1")

        def speak() -> bytes:
            settings = VoiceSettings(stability=0.5, similarity_boost=0.8)
            got = client.text_to_speech.convert_realtime(
                "a voice",
                text=iter([TEXT]),
                model_id=query["model_id"][0],
                output_format=query["output_format"][0],  # type: ignore[arg-type]
                voice_settings=settings,
            )
            out = b""
            for piece in got:
                out += piece
                if len(out) == len(sound):
                    break
            return out

        assert await asyncio.to_thread(speak) == sound
        their_path, their_query = asked(service.paths[0])
        assert their_path == path and their_query.items() <= query.items()
        assert service.headers[0]["xi-api-key"] == "key"
        theirs = service.came[0]
        assert theirs["text"] == first["text"]
        assert first["voice_settings"].items() <= theirs["voice_settings"].items()
        assert {"text": ""} in service.came
    for line in lines:
        frame = line["frame"]
        if line["direction"] == "out" and frame.get("audio"):
            read: Any = construct_type(type_=AudioOutput, object_={**frame, "audio": "AAAA"})
            assert read.alignment.chars == frame["alignment"]["chars"]
            assert read.alignment.char_start_times_ms == frame["alignment"]["charStartTimesMs"]
            assert read.alignment.char_durations_ms == frame["alignment"]["charDurationsMs"]
        elif line["direction"] == "out":
            last: Any = construct_type(type_=FinalOutput, object_=frame)
            assert last.is_final is True


def fields(body: bytes) -> dict[str, bytes]:
    """The fields of a multipart form."""
    parts = body.split(body[: body.index(b"\r\n")])
    out = {}
    for part in parts[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        out[head.split(b'name="')[1].split(b'"')[0].decode()] = value.removesuffix(b"\r\n")
    return out


async def test_openai_transcription() -> None:
    async with http_service(script("openai_stt")) as service:
        provider = OpenAISpeechToText(SttSettings("openai", service.http, "key"))
        found = await provider.transcriber("en", 8000).words(SECOND)
        await provider.close()
        ours = fields(service.came[0])
        service.came.clear()
        client = openai.AsyncOpenAI(base_url=service.http, api_key="key", max_retries=0)
        theirs = await client.audio.transcriptions.create(
            file=("utterance.wav", ours["file"], "audio/wav"),
            model=ours["model"].decode(),
            language="en",
            response_format="json",
        )
        await client.close()
        assert theirs.text == found.text
        assert fields(service.came[0]) == ours and pcm16(SECOND) in ours["file"]
        assert service.paths[0] == service.paths[1]
        assert service.headers[0]["authorization"] == service.headers[1]["authorization"]


async def test_openai_speech() -> None:
    async with http_service(script("openai_tts")) as service:
        voice = OpenAIVoice(TtsSettings(service.http, Secret("key"), "", "alloy"))
        sound = b"".join([each.pcm.tobytes() async for each in voice.speak(TEXT, "en")])
        await voice.close()
        client = openai.AsyncOpenAI(base_url=service.http, api_key="key", max_retries=0)
        async with client.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="alloy", input=TEXT, response_format="pcm"
        ) as response:
            theirs = b"".join([piece async for piece in response.iter_bytes()])
        await client.close()
        assert theirs == sound and service.came[0] == service.came[1]
        assert service.paths[0] == service.paths[1]


TOOLS = [
    Tool("weather", "Tells the weather.", {"type": "object", "properties": {"town": {"type": "string"}}})
]
HISTORY = [Message("caller", "Hi."), Message("assistant", "Yes?")]


async def ours_of(service: Any) -> tuple[str, list[ToolCall]]:
    pieces = [each async for each in service.stream(service.begin(HISTORY, "How is the weather?"), TOOLS)]
    await service.close()
    text = "".join(each for each in pieces if isinstance(each, str))
    return text, [each for each in pieces if isinstance(each, ToolCall)]


async def test_openai_chat() -> None:
    async with fake_service(Answer(USE["openai"])) as service:
        settings = ModelSettings(service.url, "m", Secret("key"))
        text, calls = await ours_of(OpenAIService(settings))
        client = openai.AsyncOpenAI(base_url=service.url, api_key="key", max_retries=0)
        body = service.asked[0][0]
        said, arguments = "", ""
        async for chunk in await client.chat.completions.create(**body):
            delta = chunk.choices[0].delta
            said += delta.content or ""
            for call in delta.tool_calls or ():
                arguments += (call.function and call.function.arguments) or ""
        await client.close()
        assert said == text and json.loads(arguments) == calls[0].arguments
        assert service.asked[1][0] == body and service.paths[0] == service.paths[1]
        assert service.asked[0][1]["authorization"] == service.asked[1][1]["authorization"]


async def test_anthropic_messages() -> None:
    async with fake_service(Answer(USE["anthropic"])) as service:
        settings = ModelSettings(service.url, "m", Secret("key"))
        text, calls = await ours_of(AnthropicService(settings))
        client = anthropic.AsyncAnthropic(
            base_url=service.url.removesuffix("/v1"), api_key="key", max_retries=0
        )
        body = service.asked[0][0]
        said, arguments = "", ""
        async for event in await client.messages.create(**body):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                said += event.delta.text
            elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                arguments += event.delta.partial_json
        await client.close()
        assert said == text and json.loads(arguments) == calls[0].arguments
        assert service.asked[1][0] == body and service.paths[0] == service.paths[1]
        # The key goes where the API has always had it; since version 2 their client sends it as a bearer, with a
        # newer version of the API. It still takes either itself.
        assert service.asked[0][1]["x-api-key"] == "key"
        assert service.asked[1][1]["authorization"] == "bearer key"
        client = anthropic.AsyncAnthropic(default_headers={"X-Api-Key": "key"}, api_key=None)
        client._validate_headers({"X-Api-Key": "key"}, {})
        await client.close()
