"""One call's media: an audio stream, perhaps a video stream, one clock for both."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, field, replace

from orchestrator.media.audio.stream import AudioStream
from orchestrator.media.bundle import BundleTransport
from orchestrator.media.clock import AUDIO, OTHER, SLOT_SECONDS
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import Face, Hearing, SilentVoice, Voice
from orchestrator.media.stream_socket import OpenSocket
from orchestrator.media.transport import MediaSocket, Poller
from orchestrator.media.video.pacer import SendPacket
from orchestrator.media.video.stream import CLOCK_RATE, VideoEngine, VideoStream
from orchestrator.rtp.agreed import Address
from orchestrator.rtp.bundle import BundleAgreement
from orchestrator.rtp.consent import Consent
from orchestrator.rtp.ports import PortPool

_FIRST_REPORT = 0.2
_REPORT_INTERVAL = (2.0, 3.0)


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Figures of one stream; loss and jitter in packets and seconds.

    ``strays`` came from those whom the stream does not belong to, the last of them from ``stray_source``;
    ``withheld`` packets were not sent, since their address had not shown that it wants them.
    """

    sent_packets: int = 0
    sent_octets: int = 0
    received_packets: int = 0
    received_lost: int = 0
    received_jitter: float = 0.0
    peer_lost: int | None = None
    peer_fraction_lost: float | None = None
    peer_jitter: float | None = None
    round_trip: float | None = None
    malformed: int = 0
    strays: int = 0
    stray_source: str = ""
    withheld: int = 0
    send_errors: int = 0
    nacked: int = 0
    retransmitted: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class SessionStats:
    """A snapshot of a call's media. ``heard_ago``: seconds since the caller's audio was last seen.

    ``silent_for``: seconds without RTP and RTCP of any stream while the call was not on hold.
    """

    seconds: float
    audio: StreamStats
    audio_late: int
    audio_skipped: int
    heard_ago: float | None
    video: StreamStats | None = None
    pictures_cached: int = 0
    pictures_live: int = 0
    pictures_dropped: int = 0
    keyframes: int = 0
    keyframe_requests: int = 0
    encode_ms: float = 0.0
    silent_for: float = 0.0
    video_bitrate: int = 0


@dataclass(frozen=True, slots=True)
class MediaEngine:
    """What all calls of a process share."""

    video: VideoEngine
    poller: Poller
    ports: PortPool
    rng: random.Random = field(default_factory=random.SystemRandom)


class MediaSession:
    """Opens ports at once, is told the parameters when they are known, and then runs until ``stop``.

    With a ``bundle`` all its streams go through that one, which ends with them.

    Not thread-safe: every call belongs to the clock's event loop.
    """

    def __init__(
        self,
        engine: MediaEngine,
        voice: Voice | None = None,
        face: Face | None = None,
        hearing: Hearing | None = None,
        *,
        with_video: bool = True,
        bundle: BundleTransport | None = None,
    ) -> None:
        self._engine = engine
        self.cname = secrets.token_hex(8)
        self._consent = Consent()
        self._bundle = bundle
        self._viewer: SendPacket | None = None
        self.audio = AudioStream(
            engine.video.clock, self._open_socket(), voice or SilentVoice(), hearing, self.cname
        )
        self.video: VideoStream | None = None
        self._face = face
        self._slot: int | None = None
        self._stopped = False
        self._t0 = 0.0
        self._awaited = float("inf")
        self._voice_at: Address | None = None
        if with_video:
            try:
                self._add_video()
            except Exception:
                self.audio.stop(0.0)
                raise

    @property
    def audio_port(self) -> int:
        return self.audio.socket.port

    @property
    def video_port(self) -> int | None:
        return self.video.socket.port if self.video else None

    @property
    def started(self) -> bool:
        return self._slot is not None

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def t0(self) -> float:
        """Monotonic seconds of audio packet 0 and video picture 0."""
        return self._t0

    def open_video(self) -> int:
        """Open video ports where there are none; the port of RTP. Raises ``PortsExhausted``, ``OSError``."""
        stream = self.video or self._add_video()
        return stream.socket.port

    def close_video(self) -> None:
        """Give back video ports that nothing was agreed for."""
        if self.video is not None and not self.video.configured:
            self._drop_video(self.video)

    def _drop_video(self, stream: VideoStream) -> None:
        wheel = self._engine.video.clock.wheel
        stream.stop(wheel.time_of(wheel.slot))
        self.video = None

    def _add_video(self) -> VideoStream:
        self.video = VideoStream(self._engine.video, self._open_socket(), self._face, self.cname)
        if self._viewer is not None:
            self.video.show(self._viewer)
        return self.video

    def _open_socket(self) -> OpenSocket:
        """A stream's own pair of ports, or its share of the bundle."""
        if self._bundle is not None:
            return self._bundle.open_port
        pair, poller, consent = self._engine.ports.open(), self._engine.poller, self._consent
        return lambda on_rtp, on_rtcp, on_open: MediaSocket(pair, poller, on_rtp, on_rtcp, consent, on_open)

    def perform(self, voice: Voice, face: Face | None) -> None:
        """Who speaks and is seen from now on; without a face nothing is sent on the video stream."""
        self.audio.voice, self._face = voice, face
        if self.video is not None:
            self.video.face = face

    @property
    def hearing(self) -> Hearing | None:
        """Who listens to the caller; set it before ``start``."""
        return self.audio.hearing

    @hearing.setter
    def hearing(self, hearing: Hearing | None) -> None:
        self.audio.hearing = hearing

    def update(
        self, audio: AudioParameters, video: VideoParameters | None, bundle: BundleAgreement | None = None
    ) -> None:
        """What was negotiated, the first time and after each re-INVITE; ``video`` ``None``: no video.

        Raises ``ValueError`` for a codec or size that we do not have; the call then goes on as it was.
        """
        if self._bundle is not None and bundle is not None:
            self._bundle.agree(bundle)
        moved = self.audio.socket.signalled != audio.remote
        self.audio.configure(audio)
        now = self._engine.video.clock.wheel
        if audio.direction != "sendrecv":
            self._awaited = float("inf")
        elif moved or self._awaited == float("inf"):
            self._awaited = now.time_of(now.slot)
        if video is None:
            if self.video is not None:
                self._drop_video(self.video)
            return
        fresh = self.video is None
        stream = self.video or self._add_video()
        starts = not stream.running
        stream.configure(video)
        if self._slot is not None and (fresh or starts):
            stream.join(self._t0, now.slot + 1)

    def start(self) -> None:
        """Begin to send, at the next slot or a few later; harmless when called again."""
        if self._slot is not None or self._stopped:
            return
        wheel = self._engine.video.clock.wheel
        self._slot = slot = self._engine.video.clock.join()
        self._t0 = t0 = wheel.time_of(slot)
        wheel.add(AUDIO, self.audio.start(t0, slot), self.audio.tick)
        if self.video is not None and self.video.configured:
            self.video.join(t0, slot)
        wheel.add(OTHER, slot + int(_FIRST_REPORT / SLOT_SECONDS), self._report)

    def show(self, viewer: SendPacket | None) -> None:
        """Hand every packet of the picture to this one as well, from now on; ``None``: to nobody any more."""
        self._viewer = viewer
        if self.video is not None:
            self.video.show(viewer)

    def video_start(self) -> int:
        """The picture's time stamp at ``t0``."""
        return self.video.start if self.video is not None else 0

    def request_keyframe(self) -> None:
        """The peer asked for a key frame by signalling (RFC 5168)."""
        if self.video is not None:
            self.video.keyframes.request()

    def stop(self) -> None:
        """Say BYE in RTCP, close sockets, give ports back; harmless when called again.

        Whoever performed and listened is let go of: a call that is over must be free at once, since the garbage
        collector would stop the clock of all calls to find it.
        """
        if self._stopped:
            return
        self._stopped = True
        wheel = self._engine.video.clock.wheel
        if self._slot is not None:
            wheel.leave(self._slot)
        now = wheel.time_of(wheel.slot)
        self.audio.stop(now)
        if self.video is not None:
            self.video.stop(now)
        self.perform(SilentVoice(), None)
        self.audio.hearing = None

    def _report(self, slot: int, now: float) -> int | None:
        if self._stopped:
            return None
        self.audio.report(now)
        self.audio.socket.watch(now)
        if self.video is not None and self.video.configured:
            self.video.report(now)
            # Arriving video is not read: that the phone has moved is seen from its voice.
            if self.audio.socket.remote != self._voice_at:
                self.video.socket.reopen()
        self._voice_at = self.audio.socket.remote
        return slot + int(self._engine.rng.uniform(*_REPORT_INTERVAL) / SLOT_SECONDS)

    def silent_for(self, now: float) -> float:
        """Seconds in which nothing came that should have come; none while the call is on hold."""
        ago = self.audio.socket.anything_ago(now)
        if self.video is not None:
            ago = min(ago, self.video.socket.anything_ago(now))
        return max(0.0, min(ago, now - max(self._awaited, self._t0)))

    def stats(self, now: float) -> SessionStats:
        """A snapshot; ``now`` in monotonic seconds."""
        audio, video = self.audio, self.video
        heard = audio.socket.heard_ago(now)
        figures = SessionStats(
            seconds=max(0.0, now - self._t0) if self._slot is not None else 0.0,
            audio=_stream_stats(audio),
            audio_late=audio.late,
            audio_skipped=audio.skipped,
            heard_ago=None if heard == float("inf") else heard,
            silent_for=self.silent_for(now),
        )
        if video is None:
            return figures
        repeats = video.repeater.history
        return replace(
            figures,
            video=replace(_stream_stats(video), nacked=repeats.asked, retransmitted=repeats.repeated),
            video_bitrate=video.rate.target,
            pictures_cached=video.counters.cached,
            pictures_live=video.counters.live,
            pictures_dropped=video.dropped,
            keyframes=video.counters.idr,
            keyframe_requests=video.keyframes.count,
            encode_ms=video.encode_seconds * 1000,
        )


def _stream_stats(stream: AudioStream | VideoStream) -> StreamStats:
    reports, sock, peer = stream.reports, stream.socket, stream.reports.peer
    reception = stream.reception if isinstance(stream, AudioStream) else None
    rate = reception.clock_rate if reception else CLOCK_RATE
    return StreamStats(
        sent_packets=reports.packets,
        sent_octets=reports.octets,
        received_packets=reception.received_packets if reception else 0,
        received_lost=reception.lost_packets if reception else 0,
        received_jitter=reception.jitter_seconds if reception else 0.0,
        peer_lost=peer.lost,
        peer_fraction_lost=peer.fraction_lost,
        peer_jitter=None if peer.jitter_ticks is None else peer.jitter_ticks / rate,
        round_trip=peer.round_trip,
        malformed=sock.malformed,
        strays=sock.strays,
        stray_source=sock.stray_source,
        withheld=sock.withheld,
        send_errors=sock.send_errors,
        rejected=sock.rejected,
    )
