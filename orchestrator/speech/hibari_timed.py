"""When ``hibari-tts`` speaks which word: it decides how long every symbol is, and keeps that to itself.

Its model has the lengths as an inner tensor. The words that its symbols belong to are those of its own reading of
the text, in which numbers and abbreviations are spelt out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from hibari import Hibari, dsp
from hibari.g2p import G2P
from hibari.g2p.normalize import normalize
from hibari.voices import DEFAULT, voice_path
from numpy.typing import NDArray

from orchestrator.speech.base import Stretch
from orchestrator.speech.estimated import weight

_LENGTHS = "/Clip_output_0"
"""The tensor: ``(1, n)``, of each symbol, in steps of two frames."""
_STEP_MS = 2 * dsp.HOP * 1000 / dsp.SR
_LEAD_MS = 25.0
"""The sound of a symbol comes so much before its place: seen where a sound begins after silence."""
_LONGEST_MS, _LAST_MS = 150.0, 75.0
"""A symbol that is longer has a pause behind it, which is counted to it: so much of it sounds."""
_SPACE = " "
"""Before a word: the way from the word before it, which sounds."""
_NO_SOUND = frozenset(' ;:,.!?—…"()“”')
"""Symbols that are pauses, if anything."""

Span = tuple[float, float]
Reading = list[tuple[str, str]]
"""The words of a sentence as they are spoken, and the symbols of each."""


def with_output(model: bytes, tensor: str) -> bytes:
    """An ONNX model that also puts out one of its inner tensors.

    Messages of protobuf that stand one behind the other are one message, whose lists go on (protobuf.dev,
    "Encoding", Last One Wins). The fields are ``ModelProto.graph``, ``GraphProto.output`` and
    ``ValueInfoProto.name`` of ``onnx.proto``.
    """
    out = tensor.encode()
    for field in (1, 12, 7):
        out = bytes((field << 3 | 2, len(out))) + out  # both below 128
    return model + out


def shares(words: Sequence[str], spoken: Sequence[tuple[str, int]]) -> list[float]:
    """How many symbols each word of a text has; ``spoken``: the words that it is read as, and how many those have.

    Where it is read otherwise than it is written the words share the symbols by their letters.
    """
    out, before = list[float](), 0.0
    written, read = list(map(_plain, words)), [_plain(word) for word, _ in spoken]
    matcher = SequenceMatcher(None, written, read, autojunk=False)
    for kind, first, last, begin, end in matcher.get_opcodes():
        counts = [count for _, count in spoken[begin:end]]
        if last - first == end - begin:
            out += counts
        elif kind == "insert":  # it belongs to the word before it, or to the first one
            before += 0 if out else sum(counts)
            out[-1:] = [each + sum(counts) for each in out[-1:]]
        else:
            weights = [weight(word) for word in words[first:last]]
            out += [sum(counts) * each / sum(weights) for each in weights]
    out[:1] = [each + before for each in out[:1]]
    return out


def _plain(word: str) -> str:
    return "".join(each for each in word.casefold() if each.isalnum())


class _Session:
    """What is asked of an ``onnxruntime.InferenceSession``; ``lengths_ms`` are those of the last run."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.lengths_ms = np.zeros(0)

    def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
        out: list[Any] = self._session.run(names, inputs)
        self.lengths_ms = np.asarray(out.pop(), np.float64).reshape(-1) * _STEP_MS
        return out


class _Reader:
    """Hibari's own way from a sentence to symbols, which notes down how it has read the words."""

    def __init__(self) -> None:
        self.read: list[tuple[list[str], Reading]] = []
        """The words of each sentence, and what was made of them."""
        self._g2p = G2P()

    def __call__(self, sentence: str) -> str:
        """Its symbols."""
        reading, word, symbols = Reading(), "", ""
        for token in self._g2p.phonemize_tokens(self._g2p.tokenize(normalize(sentence))):
            word, symbols = word + token.text, symbols + (token.phonemes or "")
            if token.whitespace:
                reading.append((word, symbols))
                word = symbols = ""
        reading.append((word, symbols))
        self.read.append((sentence.split(), reading))
        return " ".join(symbols for _, symbols in reading).strip()


class TimedHibari:
    """The voice and its model; one text at a time."""

    def __init__(self) -> None:
        self._reader = _Reader()
        self._tts = Hibari(
            model=with_output(Path(voice_path(DEFAULT)).read_bytes(), _LENGTHS), g2p=self._reader
        )
        self._tts.model_path = ""
        self._session = self._tts.sess = _Session(self._tts.sess)

    def stretches(self, text: str, speed: float) -> Iterator[Stretch]:
        """Sentence by sentence; ``speed`` 1.0 is the voice's own."""
        self._reader.read = []
        chunks = self._tts.phonemize(text)
        places = self._places(text)
        spans, done_ms = list[Span](), 0.0
        for number, symbols in enumerate(chunks, 1):
            sound = self._tts.from_phonemes(symbols, speed)
            pcm = np.clip(np.asarray(sound) * 32767.0, -32768, 32767).astype(np.int16)
            known = [each for each in symbols if each in self._tts.vocab]
            spans += sounding(known, self._session.lengths_ms, done_ms)
            done_ms += len(pcm) * 1000 / dsp.SR
            last = number == len(chunks)
            come = [(begin, end) for begin, end in places if last or begin + end < 2 * len(spans)]
            places = places[len(come) :]
            yield Stretch(pcm, tuple(middle(spans, *place) for place in come if spans))

    def _places(self, text: str) -> list[Span]:
        """Where each word begins and ends, in symbols from the beginning; nothing where that cannot be told."""
        counts = list[float]()
        for words, reading in self._reader.read:
            counts += shares(words, [(word, self._count(symbols)) for word, symbols in reading])
        if len(counts) != len(text.split()):
            return []
        return list(pairwise(accumulate(counts, initial=0.0)))

    def _count(self, symbols: str) -> int:
        return sum(each in self._tts.vocab and each not in _NO_SOUND for each in symbols)


def sounding(symbols: Sequence[str], lengths_ms: NDArray[np.float64], start_ms: float) -> list[Span]:
    """When each symbol that is no pause begins and ends. ``lengths_ms`` are those of the silence before them, of
    each one, and of the silence behind them."""
    places, out = [float(each) for each in start_ms - _LEAD_MS + np.cumsum(lengths_ms)], list[Span]()
    for at, symbol in enumerate(symbols):
        if symbol in _NO_SOUND:
            continue
        begin, end = places[at : at + 2]
        if at and symbols[at - 1] == _SPACE:
            begin = places[at - 1]
        if end - places[at] > _LONGEST_MS:
            end = places[at] + _LAST_MS
        out.append((begin, end))
    return out


def middle(spans: Sequence[Span], begin: float, end: float) -> float:
    """Halfway from the beginning to the end of a word, which are places among symbols."""
    first = min(int(begin), len(spans) - 1)
    last = min(max(0, ceil(end) - 1), len(spans) - 1)
    return (_moment(spans[first], begin - first) + _moment(spans[last], end - last)) / 2


def _moment(span: Span, share: float) -> float:
    begin, end = span
    return begin + min(1.0, share) * (end - begin)
