"""The speech that the network learns from and is judged by, cached under ``.cache/visemes``.

Every voice is synthesised with known phone times, or aligned by PocketSphinx where a voice's own times are too
coarse (the natural voices) or off (ked's). Test voices are never trained on, and test sentences come from the end
of the lists.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from inference_server.engines.portrait.features import RATE
from inference_server.lipsync import align
from inference_server.lipsync.phones import Phone
from testing.training import espeak, synthesizers, texts

CACHE = Path(".cache/visemes")
TEST_SENTENCES = 40
EARLY = ("festival:ked_diphone",)
"""Voices whose own times are 9 ms earlier than the sound by PocketSphinx (flite's: 2 to 3 ms): aligned instead."""


@dataclass(frozen=True)
class Clip:
    """One sentence: int16 PCM at 16 kHz and its sounds."""

    pcm: NDArray[np.int16]
    phones: list[Phone]


@dataclass(frozen=True)
class Voice:
    """``name``: engine and voice; ``minutes`` of speech; ``test`` voices are only for evaluation."""

    name: str
    language: str
    minutes: float
    test: bool = False
    kind: str = "synthetic"  # or natural, language, recorded

    @property
    def file(self) -> Path:
        """Where its speech is cached."""
        return CACHE / (self.name.replace(":", "_").replace("+", "_") + ".npz")


_ESPEAK = (
    *(("en-us", "en", v) for v in ("", "+f2", "+m3", "+klatt2", "+Annie", "+Gene")),
    *(("en-gb-x-rp", "en", v) for v in ("+f4", "+m7", "+klatt")),
    *(("de", "de", v) for v in ("", "+f3", "+klatt3")),
    *(("es", "es", v) for v in ("+m2", "+f1")),
    *(("it", "it", v) for v in ("", "+f4")),
    *(("ru", "ru", v) for v in ("+m4", "+f2")),
    *(("cs", "cs", v) for v in ("+m1",)),
    *(("fr", "it", v) for v in ("+m3", "+f2")),
    *(("fr", "fr", v) for v in ("+f1", "+m1")),
    *(("cmn", "cmn", v) for v in ("+f3", "+m2")),
    *(("sv", "de", v) for v in ("+f1",)),
    *(("tr", "it", v) for v in ("+m6",)),
    *(("nl", "de", v) for v in ("+f4",)),
    *(("pt", "es", v) for v in ("+m5",)),
    *(("pl", "cs", v) for v in ("+f5",)),
)
VOICES = (
    *(Voice(f"espeak:{v}{variant}", lang, 3.0) for v, lang, variant in _ESPEAK),
    *(Voice(f"flite:{v}", "en", 12.0) for v in ("slt", "awb")),
    Voice("flite:kal16", "en", 6.0),
    *(
        Voice(f"festival:{v}", lang, 6.0)
        for v, (lang, _, _) in synthesizers.FESTIVAL.items()
        if v not in ("ked_diphone", "czech_ph")
    ),
    Voice("hibari", "en", 40.0, kind="natural"),
    Voice("flite:rms", "en", 4.0, test=True),
    Voice("festival:ked_diphone", "en", 4.0, test=True),
    Voice("espeak:en-us+Andrea", "en", 4.0, test=True),
    Voice("joe", "en", 5.0, test=True, kind="natural"),
    Voice("librivox", "en", 1.0, test=True, kind="recorded"),
    Voice("espeak:de+f5", "de", 3.0, test=True, kind="language"),
    Voice("espeak:fr+m7", "fr", 1.0, test=True, kind="language"),
    Voice("espeak:es+f5", "es", 3.0, test=True, kind="language"),
    Voice("espeak:cmn+m5", "cmn", 1.0, test=True, kind="language"),
    Voice("festival:czech_ph", "cs", 3.0, test=True, kind="language"),
)


def to_16k(pcm: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    """Resample to 16 kHz."""
    return pcm if rate == RATE else np.asarray(soxr.resample(pcm, rate, RATE, "HQ"))


def _spoken(voice: Voice, sentences: list[str]) -> Iterator[Clip]:
    engine, _, name = voice.name.partition(":")
    if engine == "espeak":
        rng = np.random.default_rng(zlib.crc32(voice.name.encode()))
        for text in sentences:
            rate, pitch = int(rng.integers(135, 215)), int(rng.integers(30, 70))
            pcm, sr, phones = espeak.speak(text, name, rate, pitch)
            yield Clip(to_16k(pcm, sr), phones)
    elif engine == "flite":
        for pcm, sr, phones in synthesizers.flite(name, sentences):
            yield Clip(to_16k(pcm, sr), phones)
    elif engine == "festival" and voice.name not in EARLY:
        for i in range(0, len(sentences), 40):
            for pcm, sr, phones in synthesizers.festival(name, sentences[i : i + 40]):
                yield Clip(to_16k(pcm, sr), phones)
    elif engine == "librivox":
        for pcm, text in synthesizers.librivox():
            yield Clip(pcm, align.align(pcm, text) or [])
    else:
        for i, text in enumerate(sentences):
            speed = (0.9, 1.0, 1.12)[i % 3]
            if engine == "hibari":
                made = synthesizers.hibari([text], speed, i)
            else:
                made = (
                    synthesizers.joe([text], speed)
                    if engine == "joe"
                    else synthesizers.festival(name, [text])
                )
            parts = [to_16k(pcm, sr) for pcm, sr, _ in made]
            pcm = np.concatenate(parts) if parts else np.zeros(0, np.int16)
            aligned = align.align(pcm, text)
            if aligned:
                yield Clip(pcm, aligned)


def build(voice: Voice) -> Path:
    """Synthesise a voice's speech unless it is cached; returns the file."""
    if voice.file.exists():
        return voice.file
    sentences = [] if voice.name == "librivox" else texts.sentences(voice.language)
    held = min(TEST_SENTENCES, len(sentences) // 2)
    if voice.test:
        sentences = sentences[len(sentences) - held :]
    else:
        sentences = sentences[: len(sentences) - held]
        turn = zlib.crc32(voice.name.encode()) % max(1, len(sentences))
        sentences = sentences[turn:] + sentences[:turn]
        if voice.language in ("fr", "cmn"):
            sentences = sentences * 4
    sentences = sentences[: max(held, int(voice.minutes * 60 / 4))]
    seconds, clips = 0.0, list[Clip]()
    for clip in _spoken(voice, sentences):
        if not clip.phones or abs(clip.phones[-1].end - len(clip.pcm) / RATE) > 0.4:
            continue
        clips.append(clip)
        seconds += len(clip.pcm) / RATE
        if seconds > voice.minutes * 60:
            break
    if not clips:
        raise RuntimeError(f"{voice.name} spoke nothing")
    CACHE.mkdir(parents=True, exist_ok=True)
    flat = [(i, p) for i, clip in enumerate(clips) for p in clip.phones]
    np.savez_compressed(
        voice.file,
        pcm=np.concatenate([c.pcm for c in clips]),
        lengths=np.array([len(c.pcm) for c in clips]),
        clip=np.array([i for i, _ in flat]),
        symbol=np.array([p.symbol for _, p in flat]),
        times=np.array([(p.start, p.end) for _, p in flat]),
    )
    return voice.file


def load(voice: Voice) -> list[Clip]:
    """The clips of a voice, synthesised first where needed."""
    with np.load(build(voice)) as data:
        ends = np.cumsum(data["lengths"])
        pcm, owner, symbols, times = data["pcm"], data["clip"], data["symbol"], data["times"]
    phones: list[list[Phone]] = [[] for _ in ends]
    for i, s, (a, b) in zip(owner, symbols, times, strict=True):
        phones[i].append(Phone(str(s), float(a), float(b)))
    starts = [0, *ends[:-1]]
    return [Clip(pcm[a:b], p) for a, b, p in zip(starts, ends, phones, strict=True)]


def main() -> None:
    """Synthesise everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="voices whose name contains this")
    args = parser.parse_args()
    for voice in VOICES:
        if args.only in voice.name:
            clips = load(voice)
            seconds = sum(len(c.pcm) for c in clips) / RATE
            print(f"{voice.name:40} {len(clips):5} sentences {seconds / 60:6.1f} min", flush=True)


if __name__ == "__main__":
    main()
