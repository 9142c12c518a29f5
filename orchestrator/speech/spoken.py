"""A text that is spoken sentence by sentence while the rest of it is still being written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import numpy as np

from orchestrator.speech.base import PCM, Stretch, TextToSpeech, TimedSpeech
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
        async with aclosing(_stretches(voice, sentence, language)) as stretches:
            async for stretch in stretches:
                if stretch.again:
                    heard.cut()
                    heard.begin(sentence)
                    begins = True
                if begun and begins and len(stretch.pcm):
                    heard.pause(PAUSE_MS)
                    yield np.zeros(voice.sample_rate * PAUSE_MS // 1000, np.int16)
                heard.extend(stretch.pcm, voice.sample_rate, stretch.middles_ms)
                if len(stretch.pcm):
                    begun, begins = True, False
                    yield stretch.pcm
        heard.end()


async def _stretches(voice: TextToSpeech, sentence: str, language: str) -> AsyncGenerator[Stretch, None]:
    if isinstance(voice, TimedSpeech):
        async with aclosing(voice.timed(sentence, language)) as stretches:
            async for stretch in stretches:
                yield stretch
        return
    async for chunk in voice.stream(sentence, language):
        yield Stretch(chunk)


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
