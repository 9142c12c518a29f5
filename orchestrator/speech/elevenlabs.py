"""Voices of ElevenLabs: ``/v1/text-to-speech/{voice}/stream-input`` over a WebSocket (elevenlabs.io, "WebSocket").

A connection speaks one sentence. The next one is opened while that sentence comes, so that nobody waits for a
handshake; closing one in mid-sentence ends the work on their side.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import websockets
from websockets.asyncio.client import ClientConnection, connect

from orchestrator.speech.base import SpeechError, Stretch
from orchestrator.speech.service import TtsSettings
from visavis.audio import WholeSamples
from visavis.language import service_language
from visavis.service.text import read_json

URL = "wss://api.elevenlabs.io/v1"
MODEL = "eleven_flash_v2_5"
IDLE_S = 15.0
"""A connection that was opened ahead is given up after so long; the service does so after 20 s."""
_CONNECT_S = 2.0
_CLOSE_S = 1.0
_LARGEST = 4 << 20
_KNOWS_LANGUAGES = ("_v2_5", "_v3")
_VOICE = {"stability": 0.5, "similarity_boost": 0.8}


class WordTimes:
    """Sans-IO: the middles of words, in milliseconds of the sentence, out of alignments of characters."""

    def __init__(self) -> None:
        self._began = -1.0
        self._ended = 0.0

    def feed(
        self, at_ms: float, chars: Sequence[str], starts: Sequence[float], durations: Sequence[float]
    ) -> list[float]:
        """The words that end among these characters, whose times begin with ``at_ms`` of the sentence."""
        out = list[float]()
        for char, start, duration in zip(chars, starts, durations, strict=True):
            if char.isspace():
                out += self.flush()
                continue
            self._began = at_ms + start if self._began < 0 else self._began
            self._ended = at_ms + start + duration
        return out

    def flush(self) -> list[float]:
        """The sentence is over: the middle of its last word, where it has not come yet."""
        if self._began < 0:
            return []
        middle, self._began = (self._began + self._ended) / 2, -1.0
        return [middle]


class ElevenLabsVoice:
    """Implements :class:`orchestrator.speech.service.VoiceService`."""

    sample_rate = 16_000

    def __init__(self, settings: TtsSettings) -> None:
        self._settings = settings
        self._model = settings.model or MODEL
        self._spare: tuple[str, asyncio.Task[ClientConnection], asyncio.TimerHandle] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def ahead(self, language: str) -> None:
        """See :class:`orchestrator.speech.service.VoiceService`."""
        if self._spare is None:
            task = asyncio.create_task(self._connect(language))
            timer = asyncio.get_running_loop().call_later(IDLE_S, self._drop_spare)
            self._spare = language, task, timer

    async def speak(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """See :class:`orchestrator.speech.service.VoiceService`."""
        try:
            connection = await self._take(language)
        except websockets.InvalidStatus as error:
            raise SpeechError(f"ElevenLabs answered {error.response.status_code}") from None
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            raise SpeechError(f"ElevenLabs cannot be reached: {type(error).__name__}") from None
        self.ahead(language)
        samples, times, heard_ms = WholeSamples(), WordTimes(), 0.0
        try:
            await connection.send(json.dumps({"text": f"{text.strip()} ", "flush": True}))
            await connection.send(json.dumps({"text": ""}))
            async for message in connection:
                sound, alignment, final = _read(message)
                pcm = samples.push(sound)
                middles = times.feed(heard_ms, *alignment) if alignment is not None else []
                middles += times.flush() if final else []
                heard_ms += len(pcm) * 1000 / self.sample_rate
                if len(pcm) or middles:
                    yield Stretch(np.asarray(pcm, np.int16), tuple(middles))
                if final and heard_ms:
                    return
        except (OSError, websockets.WebSocketException):
            pass
        finally:
            self._start(_closed(connection))
        raise SpeechError("ElevenLabs closed the connection in mid-sentence")

    async def close(self) -> None:
        """See :class:`orchestrator.speech.service.VoiceService`."""
        self._drop_spare()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, language: str) -> ClientConnection:
        spare = self._spare
        if spare is not None and spare[0] == language:
            self._spare = None
            spare[2].cancel()
            try:
                connection = await spare[1]
            except (OSError, TimeoutError, websockets.WebSocketException):
                pass
            else:
                if connection.state is websockets.State.OPEN:
                    return connection
                self._start(_closed(connection))
        return await self._connect(language)

    async def _connect(self, language: str) -> ClientConnection:
        settings = self._settings
        query = {
            "model_id": self._model,
            "output_format": f"pcm_{self.sample_rate}",
            "sync_alignment": "true",
        }
        if any(each in self._model for each in _KNOWS_LANGUAGES):
            query["language_code"] = service_language(language)
        path = f"text-to-speech/{quote(settings.voice, safe='')}/stream-input"
        connection = await connect(
            f"{(settings.url or URL).rstrip('/')}/{path}?{urlencode(query)}",
            additional_headers={"xi-api-key": settings.key.reveal()},
            open_timeout=_CONNECT_S,
            close_timeout=_CLOSE_S,
            max_size=_LARGEST,
        )
        await connection.send(json.dumps({"text": " ", "voice_settings": _VOICE}))
        return connection

    def _drop_spare(self) -> None:
        if self._spare is not None:
            _, task, timer = self._spare
            self._spare = None
            timer.cancel()
            self._start(_closed_when_open(task))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


Alignment = tuple[Sequence[str], Sequence[float], Sequence[float]]


def _read(message: str | bytes) -> tuple[bytes, Alignment | None, bool]:
    """Sound, alignment of its characters, and whether it is the last. Raises :class:`SpeechError`."""
    try:
        value = read_json(message)
        if "audio" not in value and not value.get("isFinal"):
            raise SpeechError(f"ElevenLabs refuses to speak ({str(value.get('error', 'no reason'))[:60]})")
        sound = base64.b64decode(value.get("audio") or "", validate=True)
        told = value.get("alignment")
        alignment = None
        if told:
            durations = told.get("charDurationsMs") or told["charsDurationsMs"]
            alignment = (list(told["chars"]), [float(each) for each in told["charStartTimesMs"]],
                         [float(each) for each in durations])  # fmt: skip
            if not len(alignment[0]) == len(alignment[1]) == len(alignment[2]):
                alignment = None
        return sound, alignment, bool(value.get("isFinal"))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise SpeechError("ElevenLabs sent something that is no speech") from None


async def _closed(connection: ClientConnection) -> None:
    await connection.close()


async def _closed_when_open(task: asyncio.Task[ClientConnection]) -> None:
    try:
        connection = await task
    except (OSError, TimeoutError, websockets.WebSocketException):
        return
    await connection.close()
