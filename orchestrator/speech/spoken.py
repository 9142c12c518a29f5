"""A text that is spoken sentence by sentence while the rest of it is still being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

import numpy as np

from orchestrator.speech.base import PCM, Remembering, Stretch, TextToSpeech, stretches_of
from orchestrator.speech.finish import PAUSE_MS
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.sentences import Sentences

MEANWHILE_S = 1.0
"""How long the first sentence may take to be spoken before something else is said meanwhile."""


async def spoken(
    voice: TextToSpeech, text: AsyncIterator[str], language: str, heard: HeardText, meanwhile: str = ""
) -> AsyncIterator[PCM]:
    """The sound of a text that comes in pieces, with a pause between sentences; ``heard`` learns where words are.

    ``meanwhile`` is a sentence that is said first where the voice takes long, if it remembers that one; no part of
    what is ``heard``. Raises what the voice and the text raise.
    """
    begun = False
    async for sentence in _sentences(text):
        begins = True
        heard.begin(sentence)
        sound = stretches_of(voice, sentence, language)
        if meanwhile and not begun and isinstance(voice, Remembering):
            sound = _or_meanwhile(sound, partial(voice.remembered, meanwhile, language))
        async with aclosing(sound) as stretches:
            async for stretch in stretches:
                if stretch.aside:
                    heard.pause(len(stretch.pcm) * 1000 / voice.sample_rate)
                    begun = True
                    yield stretch.pcm
                    continue
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


async def _or_meanwhile(
    sound: AsyncGenerator[Stretch, None], remembered: Callable[[], PCM | None]
) -> AsyncGenerator[Stretch, None]:
    async with aclosing(sound):
        first = asyncio.ensure_future(anext(sound, None))
        try:
            await asyncio.wait({first}, timeout=MEANWHILE_S)
            if not first.done() and (filler := remembered()) is not None:
                yield Stretch(filler, aside=True)
            stretch = await first
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        if stretch is not None:
            yield stretch
            async for stretch in sound:
                yield stretch


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
