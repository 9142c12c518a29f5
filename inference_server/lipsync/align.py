"""Forced alignment of English speech with its text by PocketSphinx: phone times for recorded speech and for
natural voices, whose own durations are only loosely those of the sound they make."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_server.lipsync.phones import Phone, arpabet

_CENTRE_S = 0.008  # its 25.6 ms windows begin, and do not centre, at multiples of 10 ms


@functools.cache
def _decoder() -> tuple[Any, frozenset[str]]:
    import pocketsphinx

    decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL", samprate=16000, bestpath=False)
    dictionary = Path(pocketsphinx.get_model_path("en-us")) / "cmudict-en-us.dict"
    words = frozenset(line.split(" ", 1)[0] for line in dictionary.read_text("utf-8").splitlines())
    return decoder, words


def align(pcm: NDArray[np.int16], text: str) -> list[Phone] | None:
    """Phones of 16 kHz speech with 10 ms resolution; ``None`` when a word is unknown or nothing fits."""
    phones = [
        Phone(arpabet(phone.name), *_seconds(phone)) for word in _aligned(pcm, text) or () for phone in word
    ]
    return phones or None


def align_words(pcm: NDArray[np.int16], text: str) -> list[tuple[float, float]] | None:
    """Beginning and end of each word, in seconds; else as :func:`align`."""
    return [_seconds(word) for word in _aligned(pcm, text) or () if word.name[0] not in "<["] or None


def _seconds(entry: Any) -> tuple[float, float]:
    return entry.start / 100 + _CENTRE_S, (entry.start + entry.duration) / 100 + _CENTRE_S


def _aligned(pcm: NDArray[np.int16], text: str) -> Any:
    """The words, silence and noises among them, each of which holds its phones."""
    decoder, known = _decoder()
    words = re.findall(r"[a-z']+", text.lower().replace("’", "'"))
    words = [w.strip("'") if w not in known else w for w in words]
    if not words or any(w not in known for w in words):
        return None
    data = pcm.tobytes()
    try:
        decoder.set_align_text(" ".join(words))
        for level in ("words", "phones"):
            decoder.start_utt()
            decoder.process_raw(data, full_utt=True)
            decoder.end_utt()
            if level == "words":
                if decoder.hyp() is None:
                    return None
                decoder.set_alignment()
        return decoder.get_alignment()
    except RuntimeError:
        return None
