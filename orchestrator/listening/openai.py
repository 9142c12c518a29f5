"""Recognition behind an OpenAI-compatible endpoint: ``POST /v1/audio/transcriptions``, an utterance at a time."""

from __future__ import annotations

import asyncio
import io
import wave

import httpx

from orchestrator.listening.stt import ANSWER_S, RATE, Recognised, Sound, SttError, SttSettings, pcm16
from visavis.language import service_language

URL = "https://api.openai.com/v1"
MODEL = "gpt-4o-mini-transcribe"


class OpenAITranscriber:
    """One call's; it holds nothing."""

    def __init__(self, client: httpx.AsyncClient, model: str, language: str) -> None:
        self._client, self._model, self._language = client, model, language

    def feed(self, sound: Sound) -> None:
        """See :class:`orchestrator.listening.stt.Transcriber`."""

    async def words(self, sound: Sound) -> Recognised:
        """See :class:`orchestrator.listening.stt.Transcriber`."""
        form = {"model": self._model, "response_format": "json", "language": self._language}
        file = ("utterance.wav", _wav(sound), "audio/wav")
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await self._client.post("audio/transcriptions", data=form, files={"file": file})
                text = response.json()["text"] if response.status_code == 200 else ""
        except (TimeoutError, httpx.TimeoutException):
            raise SttError(f"the recognition service did not answer for {ANSWER_S:g} s") from None
        except httpx.HTTPError as error:
            raise SttError(f"the recognition service broke off: {type(error).__name__}") from None
        except (ValueError, LookupError, TypeError):
            raise SttError("the recognition service sent something that is no result") from None
        if response.status_code != 200:
            raise SttError(f"the recognition service answered {response.status_code}")
        return Recognised(str(text).strip())

    def take(self) -> None:
        """See :class:`orchestrator.listening.stt.Transcriber`."""

    async def close(self) -> None:
        """See :class:`orchestrator.listening.stt.Transcriber`."""


class OpenAISpeechToText:
    """OpenAI, or a server of one's own that speaks the same; ``url`` ends with ``/v1`` for most."""

    def __init__(self, settings: SttSettings) -> None:
        self._model = settings.model or MODEL
        headers = {"authorization": f"Bearer {settings.key}"} if settings.key else {}
        self._client = httpx.AsyncClient(base_url=settings.url or URL, headers=headers, timeout=ANSWER_S)

    def transcriber(self, language: str, rate: int) -> OpenAITranscriber:
        """See :class:`orchestrator.listening.stt.SpeechToText`; these models are told the language alone."""
        return OpenAITranscriber(self._client, self._model, service_language(language))

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()


def _wav(sound: Sound) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm16(sound))
    return out.getvalue()
