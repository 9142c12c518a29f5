"""Sound out of a WAV file while it is still arriving (Microsoft RIFF, chunks ``fmt `` and ``data``).

With numpy alone: what strangers send meets no decoder that can be broken.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from visavis.g711 import a_law, mu_law

_MOST_HEADER = 1 << 20
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32,), _ALAW: (8,), _MULAW: (8,)}
_NAMES = {2: "Microsoft ADPCM", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x55: "MP3"}
_FORMAT_SIZE, _EXTENSIBLE_SIZE = 16, 40
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format's number in KSDATAFORMAT_SUBTYPE_WAVEFORMATEX (``mmreg.h``)."""
_CHUNKS = {b"fmt ", b"data", b"LIST", b"fact", b"JUNK", b"PAD ", b"bext", b"cue ", b"PEAK", b"id3 ", b"ID3 "}


class WavError(ValueError):
    """A file that is no WAV file, or of a kind that is not read; the message is one clear sentence."""


class WavReader:
    """Sans-IO: ``feed`` takes bytes as they come and returns ``(n,)`` mono int16 samples.

    Takes 8 to 32 bit PCM, 32 bit floating point, mu-law and A-law, any number of channels, 4 to 192 kHz; a data
    size of 0 or -1 means "to the end".
    ``sample_rate`` is 0 until the header is there. Raises :class:`WavError` with one sentence.
    """

    def __init__(self) -> None:
        self.sample_rate = 0
        self._buffer = bytearray()
        self._in_data = False
        self._left: int | None = None
        self._channels = self._bytes = 0
        self._float = False
        self._law: NDArray[np.int16] | None = None

    def feed(self, data: bytes) -> NDArray[np.int16]:
        """More of the file."""
        self._buffer += data
        if not self._in_data:
            self._header()
        if not self._in_data:
            if len(self._buffer) > _MOST_HEADER:
                raise WavError("no sound in the first MiB of this WAV file: send 16-bit PCM in a WAV")
            return np.zeros(0, np.int16)
        frame = self._channels * self._bytes
        size = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        size -= size % frame
        raw = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._left is not None:
            self._left -= size
        return self._mono(raw)

    def end(self) -> None:
        """The file is over. Raises :class:`WavError` where it never was one."""
        if not self._in_data:
            raise WavError("this is not a PCM WAV file: send 16-bit PCM in a WAV")

    def _header(self) -> None:
        buffer = self._buffer
        if len(buffer) >= 12 and not (bytes(buffer[:4]) in (b"RIFF", b"RF64") and buffer[8:12] == b"WAVE"):
            raise WavError("this is not a PCM WAV file: send 16-bit PCM in a WAV")
        at = 12
        while len(buffer) >= at + 8:
            name, size = bytes(buffer[at : at + 4]), int.from_bytes(buffer[at + 4 : at + 8], "little")
            if name == b"data":
                if not self.sample_rate:
                    raise WavError("this WAV file has sound before its format: send 16-bit PCM in a WAV")
                self._in_data = True
                self._left = None if size in (0, 0xFFFFFFFF) else size
                del buffer[: at + 8]
                return
            following = bytes(buffer[at + 8 + size : at + 13 + size])
            if len(following) < 5:
                return
            if name == b"fmt " and size >= _FORMAT_SIZE:
                self._format(bytes(buffer[at + 8 : at + 8 + min(size, _EXTENSIBLE_SIZE)]))
            at += 8 + size + (size % 2 and _has_pad(following))

    def _format(self, data: bytes) -> None:
        kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data)
        if kind == _EXTENSIBLE:
            kind = _PCM
            if len(data) == _EXTENSIBLE_SIZE:
                (number,) = struct.unpack_from("<H", data, 24)
                kind = number if data[26:] == _SUBFORMAT_TAIL else -1
        if kind not in _BITS:
            name = _NAMES.get(kind, "an unknown format")
            raise WavError(f"a WAV of {name} is not supported: send 16-bit PCM in a WAV")
        if bits not in _BITS[kind] or not channels or not 4000 <= rate <= 192_000:
            raise WavError(
                f"a WAV of {bits} bits at {rate} Hz is not supported: send 16-bit PCM, 8 to 48 kHz"
            )
        self.sample_rate, self._channels, self._bytes = rate, channels, bits // 8
        self._float = kind == _FLOAT
        self._law = None if kind in (_PCM, _FLOAT) else a_law() if kind == _ALAW else mu_law()

    def _mono(self, raw: bytes) -> NDArray[np.int16]:
        samples: NDArray[np.int16]
        if self._law is not None:
            samples = self._law[np.frombuffer(raw, np.uint8)]
        elif self._float:
            sound = np.nan_to_num(np.frombuffer(raw, "<f4"), nan=0.0)
            samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
        elif self._bytes > 1:  # the two upper bytes
            parts = np.frombuffer(raw, np.uint8).reshape(-1, self._bytes)
            samples = np.ascontiguousarray(parts[:, -2:]).view("<i2").reshape(-1)
        else:
            samples = ((np.frombuffer(raw, np.uint8).astype(np.int16) - 128) * 256).astype(np.int16)
        if self._channels == 1:
            mono: NDArray[np.int16] = samples.astype(np.int16)
        else:
            mono = samples.reshape(-1, self._channels).mean(axis=1).astype(np.int16)
        return mono


def _has_pad(following: bytes) -> bool:
    """Whether a chunk of an odd size has the byte that makes it even; not every writer knows of it."""
    without, with_pad = following[:4], following[1:]
    return without not in _CHUNKS and (_is_name(with_pad) or not _is_name(without))


def _is_name(data: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in data)
