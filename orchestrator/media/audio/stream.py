"""The audio stream of a call: 20 ms of voice every 20 ms, and what the caller sends."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.media.clock import CATCH_UP_SECONDS, MediaClock
from orchestrator.media.parameters import AudioParameters
from orchestrator.media.report import StreamReports
from orchestrator.media.sender import RtpSender
from orchestrator.media.sources import Hearing, Voice
from orchestrator.media.stream_socket import OpenSocket
from orchestrator.rtp import xr
from orchestrator.rtp.codecs import CLOCK_RATES, AudioCodec, make_codec
from orchestrator.rtp.dtmf import DtmfReceiver, DtmfSender, TelephoneEvent
from orchestrator.rtp.jitter import STEP, JitterBuffer
from orchestrator.rtp.packet import HEADER_SIZE, Header
from orchestrator.rtp.stats import Reception
from visavis.service.logs import Log

log = Log(__name__)

PACKET_SECONDS = 0.02
_SLOTS = 4
_TICK_MS = 20
_LATE_SECONDS = 0.01
_STATIC_COMFORT_NOISE = 13
Kind = Literal["voice", "noise", "event"]


def formats(parameters: AudioParameters) -> dict[int, tuple[Kind, int]]:
    """What each payload type of the peer's means, and its clock rate.

    Where a number of its answer is another one's in our offer, the answer counts.
    """
    rate = CLOCK_RATES[parameters.codec]
    found: dict[int, tuple[Kind, int]] = {_STATIC_COMFORT_NOISE: ("noise", rate)} if rate == 8000 else {}
    for number, name, clock_rate in parameters.offered:
        if name.lower() == parameters.codec.lower():
            found[number] = "voice", rate
        elif name.lower() == "telephone-event":
            found[number] = "event", clock_rate
        elif name.upper() == "CN" and clock_rate == rate:
            found[number] = "noise", rate
    if parameters.comfort_noise is not None:
        found[parameters.comfort_noise] = "noise", rate
    if parameters.telephone_event is not None:
        found[parameters.telephone_event] = "event", parameters.telephone_event_rate
    found[parameters.payload_type] = "voice", rate
    return found


def _nobody() -> None:
    """A voice goes on whenever the way opens."""


class AudioStream:
    """Sends ``voice`` from ``start`` on, silence included; piece k is due at ``t0 + k * 20 ms``.

    A piece is one packet, or two or four at once for a phone that takes no longer ones (``a=maxptime``).
    """

    def __init__(
        self,
        clock: MediaClock,
        open_socket: OpenSocket,
        voice: Voice,
        hearing: Hearing | None,
        cname: str,
    ) -> None:
        self.clock = clock
        self.voice = voice
        self.hearing = hearing
        self.always = False
        """Whether whoever listens hears silence, too, before the peer has sent anything."""
        self.skipped = 0
        self.late = 0
        self.socket = open_socket(self._received, self._reported, _nobody)
        self.reports = StreamReports(cname)
        self._sender = RtpSender(self.socket, self.reports)
        self.reception = Reception(8000)
        self._parameters: AudioParameters | None = None
        self._codec: AudioCodec = make_codec("PCMU")
        self._sends = False
        self._buffer: JitterBuffer | None = None
        self._arrivals: xr.Arrivals | None = None
        self._dtmf = DtmfReceiver()
        self._keys = DtmfSender()
        self._event_type = 0
        self._formats: dict[int, tuple[Kind, int]] = {}
        self._packet = bytearray(HEADER_SIZE)
        self._is_silence = False
        self._marker = True
        self._ticks, self._parts = 160, 1
        self._t0 = 0.0
        self._t0_slot = 0
        self._next = 0
        self._running = False
        self._sent: NDArray[np.int16] | None = None

    def configure(self, parameters: AudioParameters) -> None:
        """Take what was negotiated, at the start or later; raises ``ValueError`` for an unknown codec."""
        old = self._parameters
        codec = self._codec
        if old is None or (old.codec, old.packet_ms) != (parameters.codec, parameters.packet_ms):
            codec = make_codec(parameters.codec, parameters.packet_ms)
        wheel = self.clock.wheel
        self.socket.agree(parameters, wheel.time_of(wheel.slot))
        if codec is not self._codec or old is None:
            self._codec = codec
            rate = CLOCK_RATES[codec.name]
            self._ticks = rate // 50
            self._parts = _TICK_MS // parameters.packet_ms
            self._is_silence = False
            self.reception = Reception(rate)
            self._buffer = self._arrivals = None
        if not parameters.voip_metrics:
            self._arrivals = None
        elif self._arrivals is None:
            self._arrivals = xr.Arrivals(self.reception.clock_rate)
        self._parameters = parameters
        self._sender.payload_type, self._sends = parameters.payload_type, parameters.sends
        self._formats = formats(parameters)
        self._marker = True

    def press(self, digits: str, milliseconds: int) -> None:
        """Send keys (RFC 4733) in place of the voice. Raises ``ValueError``, also where none were agreed."""
        if self._parameters is None or self._parameters.telephone_event is None:
            raise ValueError("the phone takes no keys in RTP: telephone-event was not agreed")
        self._keys.press(digits, milliseconds)

    def start(self, t0: float, slot: int) -> int:
        """Piece 0 is due at ``t0``; returns the slot of the first tick, whose job is ``tick``."""
        self._t0, self._t0_slot, self._running = t0, slot, True
        self.socket.acknowledged(t0)
        return slot

    def tick(self, slot: int, now: float) -> int | None:
        """Send the piece that is due; one a slot until a late clock has caught up."""
        if not self._running:
            return None
        number = self._next
        late = now - self._t0 - number * PACKET_SECONDS
        self.clock.recent.add(late)
        if late > _LATE_SECONDS:
            self.late += 1
            if late > CATCH_UP_SECONDS:
                missed = int(late / PACKET_SECONDS)
                self.skipped += missed
                number += missed
        self._next = number + 1
        self._sent = None
        if self._sends:
            self._send(number)
        if self._buffer is not None or self.always:
            self.clock.wheel.afterwards.append(self._hand_on)
        return self._t0_slot + _SLOTS * (number + 1)

    def _send(self, number: int) -> None:
        try:
            pcm = self.voice.read(number)
        except Exception:
            log.exception("voice_failed")
            pcm = None
        self._sent = pcm
        packet, codec, sender = self._packet, self._codec, self._sender
        event = self._next_event(number) if self._keys.busy else None
        if event is not None:
            packet[HEADER_SIZE:] = event.payload
            sender.send(packet, event.marker, sender.timestamp(event.start * self._ticks), self._event_type)
            self._is_silence, self._marker = False, True  # the voice begins anew (RFC 3551 section 4.1)
            return
        parts = self._parts
        for part in range(parts):
            if pcm is not None:
                size = len(pcm) // parts
                piece = pcm if parts == 1 else pcm[part * size : (part + 1) * size]
                packet[HEADER_SIZE:] = codec.encode(piece)
                self._is_silence = False
            elif not self._is_silence or codec.stateful:
                packet[HEADER_SIZE:] = codec.silence()
                self._is_silence = True
            ticks = number * self._ticks + part * self._ticks // parts
            sender.send(packet, self._marker, (sender.base + ticks) & 0xFFFFFFFF)
            self._marker = False

    def _next_event(self, number: int) -> TelephoneEvent | None:
        parameters = self._parameters
        if parameters is None or parameters.telephone_event is None:
            return None
        self._event_type = parameters.telephone_event
        return self._keys.next(number, parameters.telephone_event_rate)

    @property
    def piece(self) -> int:
        """The number of the last piece."""
        return self._next - 1

    @property
    def behind(self) -> int:
        """Samples at 16 kHz by which what was handed on last is older than what was sent with it."""
        return self._buffer.behind if self._buffer is not None else 0

    def report(self, now: float) -> None:
        """Send an RTCP report; the SR's pair of times is the clock's own (RFC 3550 section 6.4.1)."""
        block = self.reception.report(now)
        timestamp = self._sender.timestamp(int((now - self._t0) * self._ticks / PACKET_SECONDS))
        report = self.reports.build(self.clock.unix(now), timestamp, block)
        if self._arrivals and (metrics := self._arrivals.metrics(self.reports.peer.round_trip, self._buffer)):
            report += xr.build(self.reports.ssrc, metrics)
        self.socket.send_rtcp(report)

    def stop(self, now: float) -> None:
        """Say BYE, close the sockets and give the ports back."""
        if self._parameters is not None and self._running:
            self.report(now)
            self.socket.send_rtcp(self.reports.goodbye())
        self._running = False
        self.socket.close()

    def _received(self, head: Header, data: bytearray, now: float) -> None:
        parameters = self._parameters
        if parameters is None:
            return
        kind, rate = self._formats.get(head.payload_type, ("", 0))
        if kind == "event":
            press = self._dtmf.push(head, bytes(data[head.start : head.end]), now)
            if press is not None and self.hearing is not None:
                self.hearing.digit(press.digit, press.duration * 1000 // rate)
        self.reception.received(head.ssrc, head.sequence, head.timestamp, now)
        if self._arrivals is not None:
            self._arrivals.received(head.ssrc, head.sequence, head.timestamp)
        if self.hearing is not None and self.hearing.listens:
            if self._buffer is None:
                self._buffer = JitterBuffer(self._codec)
            payload = bytes(data[head.start : head.end])
            discarded = self._buffer.late + self._buffer.skipped
            if kind == "voice":
                self._buffer.push(head.ssrc, head.timestamp, payload)
            elif kind == "noise":
                self._buffer.push_noise(head.ssrc, head.timestamp, payload)
            if self._arrivals is not None:
                self._arrivals.discard(head.sequence, self._buffer.late + self._buffer.skipped - discarded)

    def _hand_on(self) -> None:
        """Hand on 20 ms of the caller's voice, after all calls have sent."""
        if self.hearing is None or not self.hearing.listens:
            self._buffer = None
            return
        pcm = self._buffer.pop() if self._buffer is not None else None
        if pcm is None and self.always:
            pcm = np.zeros(STEP, np.int16)
        if pcm is not None:
            rate = self._codec.sample_rate
            sent = self._sent if self._sent is not None else np.zeros(rate // 50, np.int16)
            self.hearing.heard(pcm, sent, rate)

    def _reported(self, data: bytes, now: float) -> None:
        for packet in self.reports.take(data, self.clock.unix(now)):
            self.reports.note_sender(packet, self.reception, now)
