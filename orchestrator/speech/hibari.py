"""The embedded English voice: ``hibari-tts`` (its model is inside the wheel, nothing is downloaded)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from orchestrator.speech.base import PCM, SpeechError


class HibariVoice:
    """24 kHz, one chunk a sentence, synthesised in a thread of its own; calls take turns sentence by sentence."""

    sample_rate = 24_000

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._tts: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hibari")

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        """See :class:`orchestrator.speech.base.TextToSpeech`."""
        loop = asyncio.get_running_loop()
        sentences = await loop.run_in_executor(self._thread, self._start, text)
        while (chunk := await loop.run_in_executor(self._thread, self._next, sentences)) is not None:
            yield chunk

    def _start(self, text: str) -> Iterator[Any]:
        if self._tts is None:
            # Its onnxruntime reports its use to its maker unless it is told not to before it is loaded.
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            from hibari import Hibari  # half a second of imports, on the first sentence only

            self._tts = Hibari()
        return iter(self._tts.stream(text, speed=self._speed))

    def _next(self, sentences: Iterator[Any]) -> PCM | None:
        try:
            audio = next(sentences, None)
        except Exception as error:
            raise SpeechError(f"the English voice cannot speak this text: {error}") from error
        if audio is None:
            return None
        return np.clip(np.asarray(audio) * 32767.0, -32768, 32767).astype(np.int16)
