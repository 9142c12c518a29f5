"""espeak-ng for every language that has no natural voice, through the library in ``espeakng-loader``'s wheel.

The library keeps one global state, so all speaking goes through one thread.
C API: espeak-ng ``src/include/espeak-ng/speak_lib.h``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.speech.base import PCM, SpeechError, lookup

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_POS_CHARACTER = 1
_RATE = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_CHUNK_MS = 100

Sink = Callable[[PCM | Exception | None], None]
"""Takes what was spoken, then ``None``; called on the speaking thread."""


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


class EspeakVoice:
    """espeak-ng; ``language`` is a language tag (``de``, ``fr-CH``, ``cmn``, ``en-us``...)."""

    def __init__(self, words_per_minute: int = 160) -> None:
        self._words_per_minute = words_per_minute
        self.sample_rate = 22_050

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        """See :class:`orchestrator.speech.base.TextToSpeech`."""
        spoken: asyncio.Queue[PCM | Exception | None] = asyncio.Queue()
        stopped = threading.Event()
        loop = asyncio.get_running_loop()

        def sink(item: PCM | Exception | None) -> None:
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
        data = text.encode() + b"\0"
        self._lib.espeak_Synth(data, len(data), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        self._lib.espeak_Synchronize()
        self._sink = None

    def _on_samples(self, samples: Any, count: int, _events: Any) -> int:
        if self._stop.is_set() or self._sink is None:
            return 1
        if samples and count > 0:
            self._sink(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


_library = functools.cache(_Library)
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="espeak")
