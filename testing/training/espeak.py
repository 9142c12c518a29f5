"""Speech with exact phoneme times from eSpeak NG, through the library in the wheel ``espeakng-loader``."""

from __future__ import annotations

import ctypes
import functools
import re
import zlib
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from inference_server.lipsync.phones import Phone

_RETRIEVAL, _PHONEME_EVENTS, _PHONEME_IPA = 1, 1, 2
_EVENT_END, _EVENT_PHONEME = 0, 7
_RATE, _PITCH = 1, 3
_UTF8 = 1
_STOPS = frozenset("pbtdkɡgcqʈɖ")


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Library:
    def __init__(self) -> None:
        self.lib: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = int(self.lib.espeak_Initialize(_RETRIEVAL, 0, data, _PHONEME_EVENTS | _PHONEME_IPA))
        if self.rate <= 0:
            raise RuntimeError("eSpeak NG did not start: reinstall the package espeakng-loader")
        self.pcm: list[bytes] = []
        self.events: list[tuple[float, str]] = []
        self.callback = _Callback(self._on_samples)
        self.lib.espeak_SetSynthCallback(self.callback)
        self.lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]

    def _on_samples(self, wav: Any, count: int, events: Any) -> int:
        if wav and count > 0:
            self.pcm.append(ctypes.string_at(wav, count * 2))
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                raw = bytes(events[i].id.string).split(b"\0")[0]
                self.events.append((events[i].sample / self.rate, raw.decode("utf-8", "ignore")))
            i += 1
        return 0


@functools.cache
def _library() -> _Library:
    return _Library()


def speak(
    text: str, voice: str = "en-us", rate: int = 165, pitch: int = 50
) -> tuple[NDArray[np.int16], int, list[Phone]]:
    """Synthesise ``text``: mono PCM, its sample rate and the timed sounds.

    ``voice`` may name a variant ("en-gb+f3"); ``rate`` is words per minute. Raises ``ValueError`` for an
    unknown voice. Not for several threads at once.
    """
    es = _library()
    if es.lib.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {voice!r}: see espeak-ng --voices")
    es.lib.espeak_SetParameter(_RATE, rate, 0)
    es.lib.espeak_SetParameter(_PITCH, pitch, 0)
    es.pcm.clear()
    es.events.clear()
    data = text.encode()
    es.lib.espeak_ng_SetRandSeed(zlib.crc32(data))  # otherwise the clock's: its breath differs every time
    es.lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
    es.lib.espeak_Synchronize()
    pcm = np.frombuffer(b"".join(es.pcm), np.int16)
    total = len(pcm) / es.rate
    ends = [t for t, _ in es.events[1:]] + [total]
    pairs = zip(es.events, ends, strict=True)
    phones = [Phone("" if s.startswith(("_", " ")) else s, t, e) for (t, s), e in pairs if e > t]
    return pcm, es.rate, _closures(pcm, es.rate, phones)


def _closures(pcm: NDArray[np.int16], rate: int, phones: list[Phone]) -> list[Phone]:
    """Give a stop the silence before its burst: eSpeak NG counts that to the sound before it."""
    step = rate // 500
    quiet = np.abs(pcm[: len(pcm) // step * step].astype(np.int32)).reshape(-1, step).max(1) < 16
    out: list[Phone] = []
    for phone in phones:
        i = first = min(round(phone.start * 500), len(quiet))
        if phone.symbol[:1] in _STOPS and out:
            floor = max(first - 45, round(out[-1].start * 500) + 5)
            while i > floor and (quiet[i - 1] or i > first - 3):
                i -= 1
            if not quiet[i : first - 3].any():
                i = first
            if i < first:
                out[-1] = out[-1]._replace(end=i / 500)
                phone = phone._replace(start=i / 500)
        out.append(phone)
    return out


def phonemes(text: str, voice: str = "en-us") -> str:
    """IPA of ``text`` with its punctuation, clause by clause, as Piper voices expect it."""
    es = _library()
    if es.lib.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {voice!r}: see espeak-ng --voices")
    es.lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
    out = []
    for clause in re.findall(r"[^,.;:!?]+[,.;:!?]*", text):
        buffer = ctypes.create_string_buffer(clause.encode())
        pointer = ctypes.c_void_p(ctypes.addressof(buffer))
        spoken = ""
        while pointer.value:
            part = es.lib.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, 2)
            spoken += (part or b"").decode("utf-8", "ignore")
        mark = clause.strip()[-1:]
        out.append(spoken.strip() + (mark if mark in ",.;:!?" else ""))
    return " ".join(out)
