"""The embedded English voice: ``hibari-tts`` (its model is inside the wheel, nothing is downloaded)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.speech.base import SpeechError, Stretch, TimedSpeech


class HibariVoice(TimedSpeech):
    """24 kHz, one stretch a sentence, synthesised in a thread of its own; calls take turns sentence by sentence.

    It tells when it speaks which word.
    """

    sample_rate = 24_000

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._tts: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hibari")

    async def timed(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """See :class:`orchestrator.speech.base.TimedSpeech`."""
        loop = asyncio.get_running_loop()
        sentences = await loop.run_in_executor(self._thread, self._start, text)
        while (stretch := await loop.run_in_executor(self._thread, self._next, sentences)) is not None:
            yield stretch

    def _start(self, text: str) -> Iterator[Stretch]:
        if self._tts is None:
            # Its onnxruntime reports its use to its maker unless it is told not to before it is loaded.
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            from orchestrator.speech.hibari_timed import TimedHibari  # half a second of imports, once

            self._tts = TimedHibari()
        sentences: Iterator[Stretch] = self._tts.stretches(text, self._speed)
        return sentences

    def _next(self, sentences: Iterator[Stretch]) -> Stretch | None:
        try:
            return next(sentences, None)
        except Exception as error:
            raise SpeechError(f"the English voice cannot speak this text: {error}") from error
