"""Audio codecs of a call: G.711 from tables (ITU-T G.711), G.722 and Opus through PyAV."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, Protocol, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

from visavis.g711 import a_law, encode_table, mu_law

Pcm = NDArray[np.int16]
CodecName = Literal["PCMU", "PCMA", "G722", "opus"]

SAMPLE_RATES: dict[str, int] = {"PCMU": 8000, "PCMA": 8000, "G722": 16000, "opus": 48000}
"""Samples per second of the PCM that a codec takes; the RTP clock of G.722 is 8000 (RFC 3551 4.5.2)."""
CLOCK_RATES: dict[str, int] = {"PCMU": 8000, "PCMA": 8000, "G722": 8000, "opus": 48000}
PACKET_SECONDS = Fraction(1, 50)
SETTLES_MS = 200
"""Silence after which Opus may stop to code (RFC 6716: NB_SPEECH_FRAMES_BEFORE_DTX)."""
_CIRCLE = 4
"""Packets of settled silence after which libopus repeats itself."""


class AudioCodec(Protocol):
    """Encodes and decodes one call's audio, a packet at a time: 20 ms, or as little as was agreed."""

    name: str
    sample_rate: int
    stateful: bool
    """Whether the coded form of silence depends on what went before."""

    def encode(self, pcm: Pcm) -> bytes:
        """Payload of one packet's mono PCM at ``sample_rate``."""

    def silence(self) -> bytes:
        """Payload of one packet of silence."""

    def decode(self, payload: bytes) -> Pcm:
        """Mono PCM at ``sample_rate``; empty where the payload is damaged."""


class G711:
    """PCMU or PCMA by table: one lookup a packet."""

    sample_rate = 8000
    stateful = False

    def __init__(self, name: Literal["PCMU", "PCMA"], packet_ms: int = 20) -> None:
        self.name: str = name
        self._encode, self._decode = _TABLES[name]
        self._silence = self.encode(np.zeros(self.sample_rate * packet_ms // 1000, np.int16))

    def encode(self, pcm: Pcm) -> bytes:
        return self._encode[pcm.view(np.uint16)].tobytes()

    def silence(self) -> bytes:
        return self._silence

    def decode(self, payload: bytes) -> Pcm:
        return self._decode[np.frombuffer(payload, np.uint8)]


_TABLES = {name: (encode_table(decode), decode) for name, decode in (("PCMU", mu_law()), ("PCMA", a_law()))}


class LibavAudio:
    """G.722 or Opus, one encoder and one decoder of libavcodec per call."""

    stateful = True

    def __init__(self, name: Literal["G722", "opus"], packet_ms: int = 20) -> None:
        self.name: str = name
        self.sample_rate = SAMPLE_RATES[name]
        self._library = {"G722": "g722", "opus": "libopus"}[name]
        encoder = cast(AudioCodecContext, av.CodecContext.create(self._library, "w"))
        encoder.sample_rate, encoder.layout, encoder.format = self.sample_rate, "mono", "s16"
        encoder.time_base = Fraction(1, self.sample_rate)
        self._samples = self.sample_rate * packet_ms // 1000
        if name == "opus":
            encoder.bit_rate = 32_000
            encoder.options = {
                "application": "voip",
                "frame_duration": str(packet_ms),
                "compression_level": "5",
            }
        else:
            encoder.options = {"frame_size": str(self._samples)}
        encoder.open()
        self._encoder = encoder
        frame = av.AudioFrame(format="s16", layout="mono", samples=self._samples)
        frame.sample_rate = self.sample_rate
        self._frame, self._pts = frame, 0
        self._pcm: Pcm = np.frombuffer(memoryview(frame.planes[0]), np.int16)[: self._samples]
        self._zeros = np.zeros(self._samples, np.int16)
        self._settles_after = SETTLES_MS // packet_ms if name == "opus" else None
        self._silent: list[bytes] = []
        self._decoder = self._new_decoder()

    def _new_decoder(self) -> AudioCodecContext:
        decoder = cast(AudioCodecContext, av.CodecContext.create(self._library, "r"))
        decoder.sample_rate, decoder.layout = self.sample_rate, "mono"
        decoder.open()
        return decoder

    def encode(self, pcm: Pcm) -> bytes:
        self._silent.clear()
        return self._code(pcm)

    def _code(self, pcm: Pcm) -> bytes:
        self._pcm[:] = pcm
        self._frame.pts = self._pts
        self._pts += self._samples
        return b"".join(bytes(packet) for packet in self._encoder.encode(self._frame))

    def silence(self) -> bytes:
        # Both codecs keep state. Opus has settled after a while, as for its DTX, and goes round in a circle:
        # coding that on and on would be most of what a call that listens costs.
        silent = self._silent
        if len(silent) == self._settles_after:
            silent.append(silent.pop(-_CIRCLE))
            return silent[-1]
        coded = self._code(self._zeros)
        if self._settles_after is not None:
            silent.append(coded)
        return coded

    def decode(self, payload: bytes) -> Pcm:
        try:
            frames = self._decoder.decode(av.Packet(payload))
            pcm = [frame.to_ndarray().reshape(-1).astype(np.int16, copy=False) for frame in frames]
        except av.FFmpegError:
            self._decoder = self._new_decoder()
            pcm = []
        return np.concatenate(pcm) if pcm else np.zeros(0, np.int16)


def make_codec(name: str, packet_ms: int = 20) -> AudioCodec:
    """The codec by its SDP name, in any case; ``packet_ms`` is 20, 10 or 5.

    Raises ``ValueError`` for a codec that we do not have.
    """
    match name.upper():
        case "PCMU":
            return G711("PCMU", packet_ms)
        case "PCMA":
            return G711("PCMA", packet_ms)
        case "G722":
            return LibavAudio("G722", packet_ms)
        case "OPUS":
            return LibavAudio("opus", packet_ms)
    raise ValueError(f"no audio codec named {name!r}: use PCMU, PCMA, G722 or opus")
