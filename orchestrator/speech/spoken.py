"""A text that is spoken sentence by sentence while the rest of it is still being written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np

from orchestrator.speech.base import PCM, TextToSpeech
from orchestrator.speech.finish import PAUSE_MS
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.sentences import Sentences


async def spoken(
    voice: TextToSpeech, text: AsyncIterator[str], language: str, heard: HeardText
) -> AsyncIterator[PCM]:
    """The sound of a text that comes in pieces, with a pause between sentences; ``heard`` learns where words are.

    Raises what the voice and the text raise.
    """
    begun = False
    async for sentence in _sentences(text):
        begins = True
        heard.begin(sentence)
        async for chunk in voice.stream(sentence, language):
            if begun and begins:
                pause = np.zeros(voice.sample_rate * PAUSE_MS // 1000, np.int16)
                heard.extend(pause, voice.sample_rate)
                yield pause
            begun, begins = True, False
            heard.extend(chunk, voice.sample_rate)
            yield chunk
        heard.end()


async def whole(text: str) -> AsyncIterator[str]:
    """A text that is there already, as a stream."""
    yield text


async def _sentences(text: AsyncIterator[str]) -> AsyncIterator[str]:
    sentences = Sentences()
    async for piece in text:
        for sentence in sentences.feed(piece):
            yield sentence
    for sentence in sentences.flush():
        yield sentence
