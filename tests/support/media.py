"""Bodies whose loop index can be read from the decoded picture, and a receiver of our own."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import av
import numpy as np

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import SilentVoice, StillBody
from orchestrator.rtp import packet
from orchestrator.worker.messages import InterruptTurns, StartCall, ToFactory, ToOwner, TurnAudio, TurnReport
from orchestrator.worker.owner import CallContext, WorkerContext
from testing.h264 import Depacketizer, annex_b
from testing.loop_face import LoopFace

_BITS = 10
_BLOCK = 16


def card(number: int, width: int = 192, height: int = 128, level: int = 120) -> np.ndarray:
    """An I420 picture that carries ``number`` as a row of black and white blocks."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = level + (np.arange(width) // 8 % 5 * 3)[None, :].astype(np.uint8)
    for bit in range(_BITS):
        picture[:_BLOCK, bit * _BLOCK : (bit + 1) * _BLOCK] = 235 if number >> bit & 1 else 16
    return picture


def read_card(luma: np.ndarray) -> int:
    """The number of a decoded picture's luma plane."""
    return sum(
        int(luma[2 : _BLOCK - 2, bit * _BLOCK + 2 : (bit + 1) * _BLOCK - 2].mean() > 125) << bit
        for bit in range(_BITS)
    )


def card_body(length: int, width: int = 192, height: int = 128, body_id: str = "card") -> StillBody:
    """A loop of numbered cards."""
    return StillBody(body_id, np.stack([card(index, width, height) for index in range(length)]))


def decode(access_units: list[list[bytes]]) -> list[np.ndarray]:
    """Luma of every picture that a strict decoder gives; raises on damaged data."""
    decoder = av.CodecContext.create("h264", "r")
    decoder.options = {"err_detect": "explode"}
    pictures = []
    for units in access_units:
        pictures += decoder.decode(av.Packet(annex_b(units)))
    pictures += decoder.decode(None)
    return [picture.to_ndarray()[: picture.height] for picture in pictures]


@dataclass
class Phone:
    """The far end of a call on loopback: two RTP sockets and their RTCP sockets."""

    audio: socket.socket = field(default_factory=lambda: udp())
    audio_rtcp: socket.socket = field(default_factory=lambda: udp())
    video: socket.socket = field(default_factory=lambda: udp())
    video_rtcp: socket.socket = field(default_factory=lambda: udp())

    def address(self, name: str) -> tuple[str, int]:
        host, port = getattr(self, name).getsockname()
        return host, port

    def drain(self, name: str) -> list[bytes]:
        """Everything that has arrived."""
        out = []
        while True:
            try:
                out.append(getattr(self, name).recv(4096))
            except BlockingIOError:
                return out

    def packets(self, name: str) -> list[packet.RtpPacket]:
        return [packet.parse(data) for data in self.drain(name)]

    def close(self) -> None:
        for sock in (self.audio, self.audio_rtcp, self.video, self.video_rtcp):
            sock.close()


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def access_units(packets: list[packet.RtpPacket]) -> list[tuple[int, list[bytes]]]:
    """``(timestamp, NAL units)`` of every whole picture."""
    depacketizer = Depacketizer()
    out = [depacketizer.push(p.sequence, p.timestamp, p.marker, p.payload) for p in packets]
    assert depacketizer.damaged == 0
    return [unit for unit in out if unit is not None]


class CardOwner:
    """Shows numbered cards, speaks nothing and reports each turn at once; an interruption is a fault of its own."""

    hearing = None

    def __init__(self, call: CallContext, length: int) -> None:
        self.voice, self.face = SilentVoice(), LoopFace(card_body(length))
        self._call = call

    def take(self, message: ToOwner) -> None:
        match message:
            case TurnAudio(call_id, turn_id, split, sound):
                self._call.send(TurnReport(call_id, "started", turn_id, split, len(sound)))
            case InterruptTurns():
                raise RuntimeError("a fault of the owner")

    def configured(self, audio: AudioParameters, video: VideoParameters | None) -> None:
        pass

    @property
    def patience(self) -> float:
        return 0.0

    def started(self) -> None:
        pass

    async def close(self) -> None:
        pass


class CardFactory:
    """A call factory for media workers under test; a portrait is the number of its cards, or a refusal."""

    async def start(self, worker: WorkerContext) -> None:
        pass

    def open(self, call: CallContext, start: StartCall) -> CardOwner:
        if not start.portrait.isdecimal():
            raise ValueError(start.portrait)
        return CardOwner(call, int(start.portrait))

    def take(self, message: ToFactory) -> None:
        pass

    async def close(self) -> None:
        pass
