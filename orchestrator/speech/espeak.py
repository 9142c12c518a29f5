"""espeak-ng for every language that has no natural voice, through the library in ``espeakng-loader``'s wheel.

The library keeps one global state, so all speaking goes through one thread.
C API: espeak-ng ``src/include/espeak-ng/speak_lib.h``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import itertools
import re
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.speech.base import SpeechError, Stretch, TimedSpeech, lookup

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_POS_CHARACTER = 1
_RATE = 1
_CHUNK_MS = 100
_LAST_EVENT, _WORD_EVENT, _END_EVENT = 0, 1, 5
_WORD = re.compile(r"\S+")

Sink = Callable[[Stretch | Exception | None], None]
"""Takes what was spoken, then ``None``; called on the speaking thread."""


class _Event(ctypes.Structure):
    """``espeak_EVENT``: the character of the text, from 1 on, and the millisecond of the sound."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("character", ctypes.c_int),
        ("length", ctypes.c_int),
        ("at_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def word_middles(text: str, begins: Sequence[tuple[int, float]], ends: Sequence[float]) -> tuple[float, ...]:
    """In milliseconds, of each word between white space; none where nothing is known of any.

    ``begins``: characters of the text, from 0 on, and when each is spoken. ``ends``: of clauses. A word that
    espeak-ng speaks as one with its neighbour lies between the others.
    """
    words = list(_WORD.finditer(text))
    spans = [
        [at_ms for character, at_ms in begins if each.start() <= character < each.end()] for each in words
    ]
    known = [number for number, found in enumerate(spans) if found]
    edges = sorted([*(min(spans[number]) for number in known), *ends])
    middles = list[float]()
    for number in known:
        begin = min(spans[number])
        after = [edge for edge in edges if edge > max(spans[number])]
        middles.append((begin + min(after, default=begin)) / 2)
    if not known:
        return ()
    return tuple(map(float, np.interp(range(len(words)), known, middles)))


@functools.cache
def languages() -> dict[str, str]:
    """espeak-ng's voice by language tag in lower case (``de``, ``pt-br``, ``zh``...).

    Read from the files of its data folder: espeak-ng ``docs/voices.md``.
    """
    import espeakng_loader

    files = sorted(
        path for path in Path(espeakng_loader.get_data_path(), "lang").rglob("*") if path.is_file()
    )
    out = {path.name.lower(): path.name for path in files}
    for path in files:
        for line in path.read_text("utf-8", errors="replace").splitlines():
            match line.split():
                case ["language", tag, *_]:
                    out.setdefault(tag.lower(), path.name)
    return out


class EspeakVoice(TimedSpeech):
    """espeak-ng; ``language`` is a language tag (``de``, ``fr-CH``, ``cmn``, ``en-us``...).

    It tells when it speaks which word.
    """

    def __init__(self, words_per_minute: int = 160) -> None:
        self._words_per_minute = words_per_minute
        self.sample_rate = 22_050

    async def timed(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """See :class:`orchestrator.speech.base.TimedSpeech`."""
        spoken: asyncio.Queue[Stretch | Exception | None] = asyncio.Queue()
        stopped = threading.Event()
        loop = asyncio.get_running_loop()

        def sink(item: Stretch | Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(spoken.put_nowait, item)

        speaking = loop.run_in_executor(_THREAD, self._speak, text, language, sink, stopped)
        try:
            while (item := await spoken.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped.set()
            await asyncio.shield(speaking)

    def _speak(self, text: str, language: str, sink: Sink, stop: threading.Event) -> None:
        try:
            library = _library()
            self.sample_rate = library.sample_rate
            library.speak(text, language, self._words_per_minute, sink, stop)
        except Exception as error:
            sink(error)
        finally:
            sink(None)


class _Library:
    """The one of this process: it must not be started twice. Used from one thread."""

    def __init__(self) -> None:
        import espeakng_loader

        self._lib: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate: int = self._lib.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, _CHUNK_MS, espeakng_loader.get_data_path().encode(), 0
        )
        if self.sample_rate <= 0:
            raise SpeechError("espeak-ng did not start: is the espeakng-loader package complete?")
        self._sink: Sink | None = None
        self._begins: list[tuple[int, float]] = []
        self._ends: list[float] = []
        self._stop = threading.Event()
        self._callback = _CALLBACK(self._on_samples)
        self._lib.espeak_SetSynthCallback(self._callback)

    def speak(
        self, text: str, language: str, words_per_minute: int, sink: Sink, stop: threading.Event
    ) -> None:
        """Returns when all of it is spoken, or ``stop`` is set. Raises :class:`SpeechError`."""
        # It would open a file of any other name, with the folders that are in it.
        known = lookup(language, languages())
        if known is None or self._lib.espeak_SetVoiceByName(languages()[known].encode()) != 0:
            raise SpeechError(f"espeak-ng has no voice '{language[:40]}': see its list of languages")
        self._lib.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._sink, self._stop = sink, stop
        self._begins, self._ends = [], []
        data = text.encode() + b"\0"
        self._lib.espeak_Synth(data, len(data), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        self._lib.espeak_Synchronize()
        self._sink = None
        sink(Stretch(np.zeros(0, np.int16), word_middles(text, self._begins, self._ends)))

    def _on_samples(self, samples: Any, count: int, events: Any) -> int:
        if self._stop.is_set() or self._sink is None:
            return 1
        for event in itertools.takewhile(lambda each: each.kind != _LAST_EVENT, events):
            if event.kind == _WORD_EVENT:
                self._begins.append((event.character - 1, event.at_ms))
            elif event.kind == _END_EVENT:
                self._ends.append(event.at_ms)
        if samples and count > 0:
            self._sink(Stretch(np.ctypeslib.as_array(samples, (count,)).copy()))
        return 0


_library = functools.cache(_Library)
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="espeak")
