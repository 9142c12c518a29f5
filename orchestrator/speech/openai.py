"""Voices behind an OpenAI-compatible endpoint: ``POST /v1/audio/speech``, raw PCM at 24 kHz as it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import numpy as np

from orchestrator.speech.base import SpeechError, Stretch
from orchestrator.speech.service import SILENCE_S, TtsSettings
from visavis.audio import WholeSamples

URL = "https://api.openai.com/v1"
MODEL, VOICE = "gpt-4o-mini-tts", "alloy"


class OpenAIVoice:
    """Implements :class:`orchestrator.speech.service.VoiceService`; ``url`` ends with ``/v1`` for most services."""

    sample_rate = 24_000

    def __init__(self, settings: TtsSettings) -> None:
        self._settings = settings
        key = settings.key.reveal()
        self._client = httpx.AsyncClient(
            base_url=settings.url or URL,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=SILENCE_S,
        )

    def ahead(self, language: str) -> None:
        """See :class:`orchestrator.speech.service.VoiceService`; connections are kept anyway."""

    async def speak(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """See :class:`orchestrator.speech.service.VoiceService`; the model tells the language by the text."""
        body = {
            "model": self._settings.model or MODEL,
            "voice": self._settings.voice or VOICE,
            "input": text,
            "response_format": "pcm",
        }
        samples, got = WholeSamples(), 0
        try:
            async with self._client.stream("POST", "audio/speech", json=body) as response:
                if response.status_code != 200:
                    raise SpeechError(f"the voice's service answered {response.status_code}")
                async for piece in response.aiter_bytes():
                    pcm = samples.push(piece)
                    got += len(pcm)
                    yield Stretch(np.asarray(pcm, np.int16))
        except httpx.TimeoutException:
            raise SpeechError(f"the voice's service sent nothing for {SILENCE_S:g} s") from None
        except httpx.HTTPError as error:
            raise SpeechError(f"the voice's service broke off: {type(error).__name__}") from None
        if not got:
            raise SpeechError("the voice's service sent no sound")

    async def close(self) -> None:
        """See :class:`orchestrator.speech.service.VoiceService`."""
        await self._client.aclose()
