"""Recognition by Deepgram: ``/v1/listen`` over a WebSocket (developers.deepgram.com, "Live Audio").

Only utterances are sent, as they are said; at a pause of ours ``Finalize`` asks for what is left. Calls by G.711
are sent as mu-law at 8 kHz, others as 16-bit PCM at 16 kHz.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
import websockets
from websockets.asyncio.client import ClientConnection, connect

from orchestrator.listening.stt import (
    ANSWER_S,
    RATE,
    Recognised,
    Sound,
    SttError,
    SttSettings,
    TimedWord,
    pcm16,
)
from visavis.audio import Resampler
from visavis.g711 import encode_table, mu_law
from visavis.language import service_language
from visavis.service.text import read_json

URL = "wss://api.deepgram.com/v1"
MODEL = "nova-3"
KEEP_ALIVE_S = 4.0
"""Without a word from us for 10 s the connection is closed."""
_CONNECT_S = 2.5
_CLOSE_S = 1.0
_NEAR_S = 0.1
_MU_LAW = encode_table(mu_law())
_MOST_WAITING = 1000
"""Stretches of sound that wait for the connection: half a minute of them."""


@dataclass(frozen=True, slots=True)
class _Result:
    began: float
    ended: float
    text: str
    words: tuple[tuple[str, float, float], ...]


class DeepgramStream:
    """Sans-IO: what the messages of one connection say about the utterance. Times are seconds of what was sent."""

    def __init__(self) -> None:
        self.sent = 0.0
        """Seconds of sound so far; whoever sends keeps it."""
        self.failed = ""
        self._begins = 0.0
        self._asked = 0.0
        self._finals: list[_Result] = []
        self._interim: _Result | None = None
        self._finalised = False

    def finalize(self) -> None:
        """All of the utterance was sent, and ``Finalize`` after it."""
        self._asked, self._finalised = self.sent, False

    def take(self) -> None:
        """What is recognised of the sound so far belongs to an utterance that is over."""
        self._begins = self.sent
        self._finals.clear()
        self._interim = None

    @property
    def complete(self) -> bool:
        """Whether all up to the last ``Finalize`` is recognised, which nobody answers where nothing was left."""
        return self._finalised or (bool(self._finals) and self._finals[-1].ended >= self._asked - _NEAR_S)

    @property
    def recognised(self) -> Recognised:
        """Of the utterance so far: what is final, and beyond it what is not."""
        results = list(self._finals)
        if self._interim is not None and (not results or self._interim.began >= results[-1].ended - _NEAR_S):
            results.append(self._interim)
        words = tuple(
            TimedWord(text, round(1000 * (began - self._begins)), round(1000 * (ended - self._begins)))
            for each in results
            for text, began, ended in each.words
        )
        return Recognised(" ".join(each.text for each in results if each.text), words)

    def receive(self, text: str | bytes) -> None:
        """A message. What cannot be read is a fault of the connection: ``failed`` says so."""
        try:
            message: Any = read_json(text)
            kind = message["type"]
            if kind == "Error":
                raise ValueError
            if kind == "Results":
                self._result(message)
        except (ValueError, LookupError, TypeError, AttributeError):
            self.failed = "Deepgram sent something that is no result"

    def _result(self, message: dict[str, Any]) -> None:
        best = message["channel"]["alternatives"][0]
        began = float(message["start"])
        result = _Result(
            began,
            began + float(message["duration"]),
            str(best["transcript"]).strip(),
            tuple(
                (str(each.get("punctuated_word") or each["word"]), float(each["start"]), float(each["end"]))
                for each in best.get("words") or ()
            ),
        )
        if (result.began + result.ended) / 2 >= self._begins:
            if message.get("is_final"):
                self._finals.append(result)
                self._interim = None
            else:
                self._interim = result
        if message.get("from_finalize") and result.ended >= self._asked - _NEAR_S:
            self._finalised = True


class DeepgramTranscriber:
    """One call's connection; after a fault another one is opened with the next utterance."""

    def __init__(self, url: str, key: str, rate: int) -> None:
        self._url, self._key = url, key
        self._rate = 8000 if rate == 8000 else RATE
        self._resampler = Resampler(RATE, 8000) if rate == 8000 else None
        self._task: asyncio.Task[None] | None = None
        self._fresh, self._broken = True, False  # of this utterance
        self._begin()

    def feed(self, sound: Sound) -> None:
        """See :class:`orchestrator.listening.stt.Transcriber`."""
        if self._stream.failed and self._fresh:
            self._begin()
        self._fresh = False
        if self._stream.failed or self._waiting.qsize() > _MOST_WAITING:
            self._broken = True
            return
        pcm = np.frombuffer(pcm16(sound), "<i2")
        data = (
            pcm.tobytes()
            if self._resampler is None
            else _MU_LAW[self._resampler.push(pcm).view(np.uint16)].tobytes()
        )
        self._stream.sent += len(sound) / RATE
        self._waiting.put_nowait(data)

    async def words(self, sound: Sound) -> Recognised:
        """See :class:`orchestrator.listening.stt.Transcriber`."""
        stream = self._stream
        if self._broken or stream.failed:
            raise SttError(stream.failed or "Deepgram cannot keep up")
        stream.finalize()
        self._waiting.put_nowait(json.dumps({"type": "Finalize"}))
        try:
            async with asyncio.timeout(ANSWER_S):
                while not stream.complete:
                    self._changed.clear()
                    if stream.failed:
                        raise SttError(stream.failed)
                    await self._changed.wait()
        except TimeoutError:
            # It is late with its last word: what it said before is worth having.
            if not stream.recognised.text:
                raise SttError(f"Deepgram did not answer for {ANSWER_S:g} s") from None
        return stream.recognised

    def take(self) -> None:
        """See :class:`orchestrator.listening.stt.Transcriber`."""
        self._fresh, self._broken = True, False
        self._stream.take()

    async def close(self) -> None:
        """See :class:`orchestrator.listening.stt.Transcriber`."""
        self._waiting.put_nowait(None)
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self) -> None:
        self._stream = DeepgramStream()
        self._waiting: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(self._stream, self._waiting, self._changed.set))

    async def _run(
        self, stream: DeepgramStream, waiting: asyncio.Queue[bytes | str | None], changed: Callable[[], None]
    ) -> None:
        headers = {"Authorization": f"Token {self._key}"}
        try:
            async with connect(
                self._url, additional_headers=headers, open_timeout=_CONNECT_S, close_timeout=_CLOSE_S
            ) as connection:
                tasks = {
                    asyncio.create_task(self._read(connection, stream, changed)),
                    asyncio.create_task(self._write(connection, waiting)),
                }
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        except websockets.InvalidStatus as error:
            stream.failed = f"Deepgram answered {error.response.status_code}"
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            stream.failed = f"Deepgram cannot be reached: {type(error).__name__}"
        finally:
            stream.failed = stream.failed or "Deepgram has closed the connection"
            changed()

    async def _write(self, connection: ClientConnection, waiting: asyncio.Queue[bytes | str | None]) -> None:
        message: bytes | str | None = ""
        while message is not None:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    message = await waiting.get()
            except TimeoutError:
                message = json.dumps({"type": "KeepAlive"})
            await connection.send(json.dumps({"type": "CloseStream"}) if message is None else message)

    async def _read(
        self, connection: ClientConnection, stream: DeepgramStream, changed: Callable[[], None]
    ) -> None:
        with contextlib.suppress(websockets.WebSocketException, OSError):
            async for message in connection:
                stream.receive(message)
                changed()
                if stream.failed:
                    return


class Deepgram:
    """Serves all calls."""

    def __init__(self, settings: SttSettings) -> None:
        self._settings = settings

    def transcriber(self, language: str, rate: int) -> DeepgramTranscriber:
        """See :class:`orchestrator.listening.stt.SpeechToText`."""
        settings = self._settings
        narrow = rate == 8000
        query = {
            "model": settings.model or MODEL,
            "language": service_language(language),
            "encoding": "mulaw" if narrow else "linear16",
            "sample_rate": 8000 if narrow else RATE,
            "channels": 1,
            "punctuate": "true",
            "interim_results": "true",
            "endpointing": "false",  # whose turn it is is judged here
        }
        url = f"{(settings.url or URL).rstrip('/')}/listen?{urlencode(query)}"
        return DeepgramTranscriber(url, settings.key, rate)

    async def close(self) -> None:
        """Transcribers hold the connections."""
