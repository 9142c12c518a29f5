"""The phone's sockets: RTP and RTCP of audio and video, silence out, reports and keyframe requests out."""

from __future__ import annotations

import asyncio
import re
import secrets
import struct
import time
from collections.abc import Callable
from typing import Any, Self

from testing.caller.arrival import arrival
from testing.caller.microphone import Microphone
from testing.caller.path import LossyPath
from testing.caller.recording import PAYLOAD_TYPES, Recording, Stream
from testing.caller.repair import Repair, nack

_DIGITS = "0123456789*#ABCD"
VIDEO, RTX = 96, 97
SILENCE = {"PCMU": b"\xff" * 160, "PCMA": b"\xd5" * 160, "opus": b"\xf8\xff\xfe"}
"""20 ms each; Opus's is one empty CELT frame."""
ASK_TO_START_S = 0.2
"""A phone that has got no key frame yet asks for one so often, as libwebrtc does."""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, float], None]) -> None:
        self._receive = receive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport.get_extra_info("socket")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data, arrival(self._socket.fileno()))


class MediaSockets:
    """Four sockets on even/odd port pairs, feeding a :class:`Recording`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._transports: list[asyncio.DatagramTransport] = []
        self._remote: dict[str, tuple[str, int]] = {}
        self._ssrc = secrets.randbits(31)
        self._task: asyncio.Task[None] | None = None
        self._sequence = 0
        self._timestamp = 0
        self._events: list[tuple[str, int]] = []
        self.audio_port = self.video_port = 0
        self._paths: dict[str, LossyPath | None] = {}
        self.repair: Repair | None = None
        self.loses_keyframes = False
        """Whether every packet of a key frame is lost on the way."""
        self._fir = 0
        self.rtx_packets = 0
        self._starts = False
        self._asked_to_start = float("-inf")
        self._reported = {"audio": (0, 0), "video": (0, 0)}
        self.microphone = Microphone(recording.codec, recording.rate)

    @classmethod
    async def open(
        cls,
        local: str,
        recording: Recording,
        path: LossyPath | None = None,
        repairs: bool = False,
        audio_path: LossyPath | None = None,
    ) -> Self:
        """Bind both pairs; video goes over ``path``, and with ``repairs`` what that loses is asked for."""
        self = cls(recording)
        self._paths = {"audio": audio_path, "video": path}
        self.repair = Repair() if repairs else Repair(0.0) if path is not None else None
        loop = asyncio.get_running_loop()
        receivers = (
            (self._on_audio, recording.audio.on_rtcp),
            (self._on_video, recording.video.on_rtcp),
        )
        ports = []
        for pair in receivers:
            for _ in range(50):
                port = 40_000 + 2 * secrets.randbelow(10_000)
                opened: list[asyncio.DatagramTransport] = []
                try:
                    for offset, receive in enumerate(pair):
                        transport, _protocol = await loop.create_datagram_endpoint(
                            lambda receive=receive: _Datagrams(receive),  # type: ignore[misc]
                            local_addr=(local, port + offset),
                        )
                        opened.append(transport)
                    break
                except OSError:
                    for transport in opened:
                        transport.close()
            self._transports += opened
            ports.append(port)
        self.audio_port, self.video_port = ports
        if path is not None:
            self.video_port = await path.open(local, self.video_port)
        if audio_path is not None:
            self.audio_port = await audio_path.open(local, self.audio_port)
        return self

    def connect(self, answer: str) -> None:
        """Start sending to what the answer's SDP names."""
        self.redirect(answer)
        self._recording.answered = time.monotonic()
        self._task = asyncio.create_task(self._send())

    def redirect(self, answer: str) -> None:
        """Send to what this answer's SDP names from now on."""
        self._remote = addresses(answer)
        for kind, path in self._paths.items():
            if path is not None and kind in self._remote:
                self._remote[kind] = path.towards(self._remote[kind])

    def _on_audio(self, data: bytes, now: float) -> None:
        self._recording.audio.on_rtp(data, now)
        self.microphone.played(data[12:])

    def _on_video(self, data: bytes, now: float) -> None:
        stream = self._recording.video
        if data[1] & 0x7F == RTX:
            data = self._original(data)
        if self.loses_keyframes and is_keyframe(data[12:]):
            return
        known = stream.received
        stream.on_rtp(data, now)
        if self.repair is not None and stream.received > known:
            self.repair.arrived(stream.packets[-1].sequence, now)
            self._starts = self._starts or has_parameter_sets(data[12:])
            if not self._starts and now - self._asked_to_start > ASK_TO_START_S:
                self._asked_to_start = now
                self.send_pli()
            self._mend()

    def _original(self, data: bytes) -> bytes:
        """The packet that an RTX packet repeats (RFC 4588 section 4)."""
        self.rtx_packets += 1
        head = bytes((data[0], data[1] & 0x80 | VIDEO)) + data[12:14] + data[4:8]
        return head + struct.pack("!I", self._recording.video.ssrc or 0) + data[14:]

    def _mend(self) -> None:
        if self.repair is None or self._recording.video.ssrc is None:
            return
        ask, given_up = self.repair.due(time.monotonic())
        if ask:
            self._rtcp("video", nack(self._ssrc, self._recording.video.ssrc, ask))
        if given_up:
            self.send_pli()

    def press(self, digit: str) -> None:
        """Queue one RFC 4733 event of 100 ms."""
        event = _DIGITS.index(digit)
        self._events += [("start", event), *[("go", event)] * 3, *[("end", event)] * 3]

    def send_pli(self) -> None:
        """Picture loss indication (RFC 4585 section 6.3.1)."""
        pli = struct.pack("!BBHII", 0x81, 206, 2, self._ssrc, self._recording.video.ssrc or 0)
        self._rtcp("video", self._empty_report() + pli)

    def send_fir(self) -> None:
        """Full intra request (RFC 5104 section 4.3.1), each time a new command."""
        self._fir = (self._fir + 1) & 0xFF
        media = self._recording.video.ssrc or 0
        fir = struct.pack("!BBHIIIB3x", 0x84, 206, 4, self._ssrc, 0, media, self._fir)
        self._rtcp("video", self._empty_report() + fir)

    def send_legacy_fir(self) -> None:
        """Full intra request of RFC 2032 section 5.2.1, alone as old phones send it."""
        self._rtcp("video", struct.pack("!BBHI", 0x80, 192, 1, self._recording.video.ssrc or 0))

    def _empty_report(self) -> bytes:
        return struct.pack("!BBHI", 0x80, 201, 1, self._ssrc)

    def mute(self) -> None:
        """Send nothing more, as a phone does whose network is gone."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Stop sending and give the ports back."""
        if self._task is not None:
            self._task.cancel()
        for transport in self._transports:
            transport.close()

    async def _send(self) -> None:
        start = time.monotonic()
        silence = SILENCE[self._recording.codec]
        payload_type = PAYLOAD_TYPES[self._recording.codec]
        samples = self._recording.rate // 50
        packet = 0
        while True:
            if self._events:
                stage, event = self._events.pop(0)
                head = 101 | (0x80 if stage == "start" else 0)
                payload = struct.pack("!BBH", event, 0x8A if stage == "end" else 0x0A, samples * 5)
                stamp = self._timestamp
            else:
                spoken = self.microphone.next(time.monotonic())
                head, payload, stamp = payload_type, spoken or silence, packet * samples
                self._timestamp = stamp
            rtp = struct.pack("!BBHII", 0x80, head, self._sequence & 0xFFFF, stamp, self._ssrc) + payload
            self._sequence += 1
            if "audio" in self._remote:
                self._transports[0].sendto(rtp, self._remote["audio"])
            self._mend()
            if packet % 100 == 50:
                self._report()
            packet += 1
            await asyncio.sleep(max(0.0, start + packet * 0.02 - time.monotonic()))

    def _report(self) -> None:
        for kind, stream in (("audio", self._recording.audio), ("video", self._recording.video)):
            if stream.ssrc is None:
                continue
            fraction, lost = self._loss(kind, stream)
            block = struct.pack(
                "!IIIIII",
                stream.ssrc,
                fraction << 24 | lost,
                stream.highest & 0xFFFFFFFF,
                0,
                stream.last_sr,
                0,
            )
            rr = struct.pack("!BBHI", 0x81, 201, 7, self._ssrc) + block
            cname = b"phone"
            sdes = struct.pack("!BBHIBB", 0x81, 202, 3, self._ssrc, 1, len(cname)) + cname + b"\0"
            self._rtcp(kind, rr + sdes)

    def _loss(self, kind: str, stream: Stream) -> tuple[int, int]:
        """Share lost since the last report, in 1/256, and packets lost so far (RFC 3550 section 6.4.1)."""
        expected = stream.highest - stream.first + 1
        received = stream.received
        before, had = self._reported[kind]
        self._reported[kind] = expected, received
        gone = expected - before - (received - had)
        fraction = min(255, max(0, gone) * 256 // max(1, expected - before))
        return fraction, min(max(0, expected - received), 0x7FFFFF)

    def _rtcp(self, kind: str, data: bytes) -> None:
        if kind in self._remote:
            host, port = self._remote[kind]
            self._transports[1 if kind == "audio" else 3].sendto(data, (host, port + 1))


def is_keyframe(payload: bytes) -> bool:
    """Whether an RTP payload belongs to an IDR picture or its parameter sets (RFC 6184)."""
    kind = payload[0] & 31 if payload else 0
    if kind == 24 and len(payload) > 3:
        kind = payload[3] & 31
    elif kind == 28 and len(payload) > 1:
        kind = payload[1] & 31
    return kind in (5, 7, 8)


def has_parameter_sets(payload: bytes) -> bool:
    """Whether a decoder can start at this RTP payload: it begins with a sequence parameter set."""
    kind = payload[0] & 31 if payload else 0
    return (payload[3] & 31 if kind == 24 and len(payload) > 3 else kind) == 7


def addresses(sdp: str) -> dict[str, tuple[str, int]]:
    """Where each stream of a description that is not refused goes."""
    host = kind = ""
    found: dict[str, tuple[str, int]] = {}
    for line in sdp.splitlines():
        if match := re.match(r"c=IN IP[46] (\S+)", line):
            host = match[1]
            if kind in found:
                found[kind] = (host, found[kind][1])
        elif match := re.match(r"m=(\w+) (\d+)", line):
            kind = match[1]
            if int(match[2]):
                found[kind] = (host, int(match[2]))
    return found
