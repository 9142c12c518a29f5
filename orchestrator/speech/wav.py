"""PCM out of a WAV file while it is still arriving (Microsoft RIFF, chunks ``fmt `` and ``data``)."""

from __future__ import annotations

import struct

import numpy as np

from orchestrator.speech.base import PCM, SpeechError

_MOST_HEADER = 1 << 20
_PCM, _EXTENSIBLE = 1, 0xFFFE


class WavReader:
    """Sans-IO: ``feed`` takes bytes as they come and returns mono int16 samples.

    Takes 8 and 16 bit PCM of any number of channels, 4 to 192 kHz; a data size of 0 or -1 means "to the end".
    ``sample_rate`` is 0 until the header is there. Raises :class:`SpeechError` with one sentence.
    """

    def __init__(self) -> None:
        self.sample_rate = 0
        self._buffer = bytearray()
        self._in_data = False
        self._left: int | None = None
        self._channels = self._bytes = 0

    def feed(self, data: bytes) -> PCM:
        """More of the file."""
        self._buffer += data
        if not self._in_data:
            self._header()
        if not self._in_data:
            if len(self._buffer) > _MOST_HEADER:
                raise SpeechError("no sound in the first MiB of this WAV file: send 16-bit PCM in a WAV")
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
        """The file is over. Raises :class:`SpeechError` where it never was one."""
        if not self._in_data:
            raise SpeechError("this is not a PCM WAV file: send 16-bit PCM in a WAV")

    def _header(self) -> None:
        buffer = self._buffer
        if len(buffer) >= 12 and not (bytes(buffer[:4]) in (b"RIFF", b"RF64") and buffer[8:12] == b"WAVE"):
            raise SpeechError("this is not a PCM WAV file: send 16-bit PCM in a WAV")
        at = 12
        while len(buffer) >= at + 8:
            name, size = bytes(buffer[at : at + 4]), int.from_bytes(buffer[at + 4 : at + 8], "little")
            if name == b"data":
                if not self.sample_rate:
                    raise SpeechError("this WAV file has sound before its format: send 16-bit PCM in a WAV")
                self._in_data = True
                self._left = None if size in (0, 0xFFFFFFFF) else size
                del buffer[: at + 8]
                return
            if name == b"fmt " and len(buffer) >= at + 8 + 16:
                self._format(bytes(buffer[at + 8 : at + 24]))
            at += 8 + size + size % 2

    def _format(self, data: bytes) -> None:
        kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", data)
        if (
            kind not in (_PCM, _EXTENSIBLE)
            or bits not in (8, 16)
            or not channels
            or not 4000 <= rate <= 192_000
        ):
            raise SpeechError(
                f"a WAV of {bits} bits at {rate} Hz is not supported: send 16-bit PCM, 8 to 48 kHz"
            )
        self.sample_rate, self._channels, self._bytes = rate, channels, bits // 8

    def _mono(self, raw: bytes) -> PCM:
        if self._bytes == 2:
            samples = np.frombuffer(raw, "<i2")
        else:
            samples = ((np.frombuffer(raw, np.uint8).astype(np.int16) - 128) * 256).astype(np.int16)
        if self._channels == 1:
            mono: PCM = samples.astype(np.int16)
        else:
            mono = samples.reshape(-1, self._channels).mean(axis=1).astype(np.int16)
        return mono
