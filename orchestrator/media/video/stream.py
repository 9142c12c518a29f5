"""The video stream of a call: a picture at every tick, cached or live."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass

from orchestrator.media.clock import CATCH_UP_SECONDS, VIDEO, MediaClock
from orchestrator.media.load import Load
from orchestrator.media.parameters import Encoding, VideoParameters, bitrate_tier
from orchestrator.media.report import StreamReports
from orchestrator.media.sender import RtpSender
from orchestrator.media.sources import Body, Face
from orchestrator.media.stream_socket import OpenSocket
from orchestrator.media.video.director import VideoDirector
from orchestrator.media.video.idle_loop import Cached, IdleCache, IdleKey, IdleLoop, idle_key
from orchestrator.media.video.live import EncoderPool, LiveEncoder, LivePicture
from orchestrator.media.video.pacer import PacketPacer, SendPacket
from orchestrator.media.video.retransmitter import Retransmitter
from orchestrator.rtp.feedback import KeyframeRequests
from orchestrator.rtp.rate import RateControl
from orchestrator.rtp.rtcp import BitrateLimit, FullIntra, Nack, PictureLoss
from visavis.playout.playout import Picture
from visavis.service.logs import Log

log = Log(__name__)

CLOCK_RATE = 90_000
_REST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class VideoEngine:
    """What all video streams of a process share."""

    clock: MediaClock
    idle: IdleCache
    encoders: EncoderPool
    load: Load


@dataclass(slots=True)
class VideoCounters:
    """Pictures by how they went, over the stream's life."""

    cached: int = 0
    live: int = 0
    idr: int = 0
    skipped: int = 0
    thinned: int = 0


class VideoStream:
    """Sends ``face`` from ``start`` on; picture k is due at ``t0 + k / fps``."""

    def __init__(
        self,
        engine: VideoEngine,
        open_socket: OpenSocket,
        face: Face | None,
        cname: str,
    ) -> None:
        self.face = face
        self.counters = VideoCounters()
        self.keyframes = KeyframeRequests()
        self.reports = StreamReports(cname)
        self.rate = RateControl(0)
        self.socket = open_socket(None, self._reported, self.keyframes.request)
        self._sender = RtpSender(self.socket, self.reports)
        self.repeater = Retransmitter(engine.clock, self.socket, self._sender)
        self._engine = engine
        self._parameters: VideoParameters | None = None
        self._encoding: Encoding | None = None
        self._encoder: LiveEncoder | None = None
        self._keeps = False
        self._viewer: SendPacket | None = None
        self._director = VideoDirector()
        self._outbox = PacketPacer(self._sender.send, self._sent)
        self._idle: tuple[Body, IdleKey] | None = None
        self._loop: IdleLoop | None = None
        self._rate, self._scale, self._every = 25, 1, 1
        self._t0 = 0.0
        self._next = 0
        self._skipped = False
        self._pumping = False
        self.running = False
        self._last_live = 0.0

    @property
    def encode_seconds(self) -> float:
        """CPU time of the last live picture, composing included."""
        return self._encoder.encode_seconds if self._encoder else 0.0

    @property
    def start(self) -> int:
        """The time stamp at the call's start."""
        return self._sender.timestamp(0)

    @property
    def cached(self) -> bool:
        """Whether the last picture was a cached one."""
        return self._director.cached

    def configure(self, parameters: VideoParameters) -> None:
        """Take what was negotiated, at the start or later; a new picture format starts with an IDR.

        Raises ``ValueError`` for what cannot be sent; the stream then goes on as it was.
        """
        encoding = parameters.encoding
        wheel = self._engine.clock.wheel
        self.socket.agree(parameters, wheel.time_of(wheel.slot))
        old, self._parameters = self._parameters, parameters
        self._sender.payload_type = parameters.payload_type
        self._rate, self._scale = parameters.fps.numerator, parameters.fps.denominator
        self._every = parameters.every
        if old is not None and old.fps != parameters.fps and self.running:
            # The picture numbers go on from the same instant in the new rate.
            self._next = int(self._next * parameters.fps / old.fps) + 1
        other = (
            old is None
            or encoding != self._encoding
            or old.packetization_mode != parameters.packetization_mode
            or old.key_interval != parameters.key_interval
        )
        if old is None or _loss(old) != _loss(parameters):
            self.repeater.agree(parameters)
            self._keeps = parameters.wants_retransmission
            self._choose()
            self.rate = RateControl(bitrate_tier(parameters.bitrate))
        if other:
            if self._encoder is not None:
                self._encoder.close()
            self._encoder = LiveEncoder(
                self._engine.encoders,
                encoding,
                parameters.packetization_mode,
                lambda: self._engine.clock.post(self._send_on),
            )
            self._encoder.limit(bitrate_tier(self.rate.target))
            self._encoding, self._idle, self._loop = encoding, None, None
            self._director = VideoDirector(parameters.key_interval)
        elif old is None or not old.sends or old.remote != parameters.remote:
            self._director.restart()

    @property
    def configured(self) -> bool:
        return self._parameters is not None

    @property
    def dropped(self) -> int:
        """Pictures that were due and did not go out: replaced, skipped or thinned out."""
        return self._outbox.dropped + self.counters.skipped + self.counters.thinned

    def join(self, t0: float, slot: int) -> None:
        """Run from ``slot`` on; picture 0 is or was due at ``t0``, also for video that joins a call later."""
        assert self._parameters is not None
        wheel = self._engine.clock.wheel
        self._t0, self.running = t0, True
        self._next = max(0, math.ceil((wheel.time_of(slot) - t0) * self._parameters.fps - 1e-6))
        wheel.add(VIDEO, wheel.slot_at(self._due(self._next)), self._tick)

    def _due(self, number: int) -> float:
        return self._t0 + number * self._scale / self._rate

    def _tick(self, slot: int, now: float) -> int | None:
        parameters = self._parameters
        if not self.running or parameters is None:
            return None
        if now - self._due(self._next) > CATCH_UP_SECONDS:
            missed = int((now - self._due(self._next)) * parameters.fps)
            self._next += missed
            self.counters.skipped += missed
            self._skipped = True
        number = self._next
        self._next = number + 1
        if parameters.sends and self.face is not None:
            self._show(self.face, number, now)
            self._send_on()
        else:
            self._director.restart()
        return self._engine.clock.wheel.slot_at(self._due(self._next))

    def _send_on(self) -> None:
        """Begin to send what is ready; the slots to come send the rest."""
        if self.running and not self._pumping and self._outbox.pump():
            self._pumping = True
            clock = self._engine.clock
            clock.wheel.add(VIDEO, clock.coming_slot, self._pump)

    def _pump(self, slot: int, now: float) -> int | None:
        self._pumping = self.running and self._outbox.pump()
        return slot + 1 if self._pumping else None

    def _show(self, face: Face, number: int, now: float) -> None:
        try:
            picture = face.tick(number)
            body = face.body
        except Exception:
            log.exception("face_failed")
            self._skipped = True
            return
        every = self._every
        if number % every:
            return
        timestamp = self._sender.timestamp(number * CLOCK_RATE * self._scale // self._rate)
        loop = self._idle_loop(body) if every == 1 else None  # which leaves no picture out
        keyframe = self.keyframes.due(now)
        action = self._director.decide(picture, loop, skipped=self._skipped, keyframe=keyframe)
        self._skipped = action is None
        if action is None:
            self.counters.skipped += 1
        elif isinstance(action, Cached):
            self._show_cached(action, timestamp, now)
        elif self._engine.load.thin(number) and not action.idr:
            self.counters.thinned += 1
        else:
            self._show_live(picture, body, timestamp, now, idr=action.idr, fresh=action.fresh)

    def _show_cached(self, action: Cached, timestamp: int, now: float) -> None:
        self.counters.cached += 1
        if action.idr:
            self.counters.idr += 1
            self.keyframes.sent(now)
            if self._last_live and self._encoder is not None:
                self._encoder.cancel()
        if self._last_live and now - self._last_live > _REST_SECONDS and self._encoder is not None:
            self._encoder.rest()
            self._last_live = 0.0
        self._outbox.send(timestamp, action.packets)

    def _show_live(
        self, picture: Picture, body: Body, timestamp: int, now: float, *, idr: bool, fresh: bool
    ) -> None:
        assert self._encoder is not None
        self.counters.live += 1
        self._last_live = now
        if idr:
            self.counters.idr += 1
            self.keyframes.sent(now)
        job = LivePicture(picture, body, idr, fresh, timestamp, now)
        self._outbox.expect(job)
        self._encoder.submit(job)

    def _idle_loop(self, body: Body) -> IdleLoop | None:
        if self._idle is None or self._idle[0] is not body:
            assert self._parameters is not None
            if self._idle is not None and self._idle[0].body_id != body.body_id:
                self._director.restart()
            self._idle = (body, idle_key(body, self._parameters))
            self._loop = None
        if self._loop is None:
            self._loop = self._engine.idle.get(*self._idle)
        return self._loop

    def show(self, viewer: SendPacket | None) -> None:
        """Hand every packet to this one as well; ``None``: to nobody any more."""
        self._viewer = viewer
        self._choose()

    def _choose(self) -> None:
        send = self._send_and_keep if self._keeps else self._sender.send
        self._outbox.use(send if self._viewer is None else functools.partial(_shown, self._viewer, send))

    def _send_and_keep(self, packet: bytearray, marker: bool, timestamp: int) -> None:
        self.repeater.history.keep(self._sender.sequence, packet, marker, timestamp)
        self._sender.send(packet, marker, timestamp)

    def _sent(self, picture: LivePicture) -> None:
        self._engine.clock.video.add(time.monotonic() - picture.due)

    def report(self, now: float) -> None:
        """Send an RTCP report from the same clock as the audio's."""
        timestamp = self._sender.timestamp(int((now - self._t0) * CLOCK_RATE))
        unix = self._engine.clock.unix(now)
        self.socket.send_rtcp(self.reports.build(unix, timestamp, None))
        self.repeater.report(unix, timestamp)

    def stop(self, now: float) -> None:
        """Say BYE, close encoder and sockets, give the ports back."""
        if self._parameters is not None and self.running:
            self.report(now)
            self.socket.send_rtcp(self.reports.goodbye())
            self.repeater.stop()
        self.running = False
        self._outbox.close()
        if self._encoder is not None:
            self._encoder.close()
        self.socket.close()

    def _reported(self, data: bytes, now: float) -> None:
        peer, parameters = self.reports.peer, self._parameters
        seen, target, feedback = peer.reports, self.rate.target, frozenset[str]()
        if parameters is not None:
            feedback = parameters.feedback
        for packet in self.reports.take(data, self._engine.clock.unix(now)):
            match packet:
                case PictureLoss():
                    self.keyframes.request()
                case FullIntra(sender, media, sequence) if media in (0, self.reports.ssrc):
                    self.keyframes.full_intra(sender, sequence)
                case Nack(_, media, missing) if media == self.reports.ssrc and "nack" in feedback:
                    self.repeater.ask(missing, now)
                case BitrateLimit(sender, bits, media, temporary) if self.reports.ssrc in media:
                    self._limited(sender, bits, temporary, feedback)
        if peer.reports != seen and peer.fraction_lost is not None:
            self.rate.report(peer.fraction_lost, now)
        if self.rate.target != target and self._encoder is not None:
            self._encoder.limit(bitrate_tier(self.rate.target))

    def _limited(self, sender: int, bits: int, temporary: bool, feedback: frozenset[str]) -> None:
        if temporary and "ccm tmmbr" in feedback:
            self.rate.limit(bits)
            self.socket.send_rtcp(self.reports.notify_limit(bits, sender))
        elif not temporary and "goog-remb" in feedback:
            self.rate.limit(bits)


def _shown(viewer: SendPacket, send: SendPacket, packet: bytearray, marker: bool, timestamp: int) -> None:
    send(packet, marker, timestamp)
    viewer(packet, marker, timestamp)


def _loss(parameters: VideoParameters) -> tuple[object, ...]:
    """What decides how losses are met."""
    return parameters.feedback, parameters.bitrate, parameters.payload_type, parameters.rtx_payload_type
