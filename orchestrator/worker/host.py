"""Everything that the calls of one process share, put together and watched."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.media.bundle import BundleTransport, DatagramPath, Handshakes, OnEvent
from orchestrator.media.clock import Lateness, MediaClock
from orchestrator.media.datagrams import OwnSocket, SharedSocket
from orchestrator.media.load import Load
from orchestrator.media.parameters import VideoParameters
from orchestrator.media.session import MediaEngine, MediaSession
from orchestrator.media.sources import Body, Face, Hearing, Voice
from orchestrator.media.transport import Poller
from orchestrator.media.video.idle_loop import IdleCache, idle_key
from orchestrator.media.video.idle_store import IdleStore
from orchestrator.media.video.live import EncoderPool, be_nice
from orchestrator.media.video.stream import VideoEngine
from orchestrator.rtp.ports import PortPool
from visavis.service.supervisor import Supervisor

_JUDGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """``bind``: local address of the media; ``port_low`` 0 lets the kernel choose ports.

    ``identity``: key and certificate for DTLS, as PEM. ``web_port``: the one UDP port of all calls from browsers, 0
    where each has its own.
    """

    bind: str = "127.0.0.1"
    port_low: int = 0
    port_high: int = 0
    cache: str | None = None
    encoder_threads: int | None = None
    identity: str = field(default="", repr=False)
    web_port: int = 0


class MediaHost:
    """Clock, encoders, idle loops, sockets and load of a media process."""

    def __init__(self, settings: HostSettings) -> None:
        self.settings = settings
        self.supervisor = Supervisor()
        self.clock = MediaClock()
        self.load = Load()
        self.encoders = EncoderPool(settings.encoder_threads)
        self._idle_thread = ThreadPoolExecutor(1, "idle", be_nice, (6,))
        store = IdleStore(Path(settings.cache) / "idle") if settings.cache else None
        self.idle = IdleCache(self._idle_thread, store)
        self.poller = Poller()
        self.ports = PortPool(settings.bind, settings.port_low, settings.port_high)
        video = VideoEngine(self.clock, self.idle, self.encoders, self.load)
        self.engine = MediaEngine(video, self.poller, self.ports)
        self._handshakes = Handshakes(settings.identity, self.clock)
        self._shared: SharedSocket | None = None
        self.last_second = Lateness()
        self.last_second_video = Lateness()
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tick in the running loop."""
        self.clock.every_slot.append(self.poller.poll)
        self.clock.every_slot.append(self._handshakes.step)
        self.clock.start()
        self._watch = self.supervisor.keep("media load", self._judge)

    def session(
        self,
        voice: Voice | None = None,
        face: Face | None = None,
        hearing: Hearing | None = None,
        *,
        with_video: bool = True,
        bundle: BundleTransport | None = None,
    ) -> MediaSession:
        """A call's media with its ports open; raises ``PortsExhausted``."""
        return MediaSession(self.engine, voice, face, hearing, with_video=with_video, bundle=bundle)

    def bundle(self, on_event: OnEvent) -> BundleTransport:
        """The transport of a call from a browser. Raises ``PortsExhausted``, ``OSError``."""
        path: DatagramPath
        if self.settings.web_port:
            if self._shared is None:
                self._shared = SharedSocket(self.settings.bind, self.settings.web_port, self.poller)
            path = self._shared.open()
        else:
            path = OwnSocket(self.ports.open(), self.poller)
        return BundleTransport(path, self._handshakes, on_event)

    def warm(self, body: Body, video: VideoParameters) -> None:
        """Begin to code a body's idle loop before a call needs it."""
        self.idle.get(body, idle_key(body, video))

    async def close(self) -> None:
        """Stop the clock and the threads; calls are stopped by their owners before."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        self.clock.stop()
        self.idle.close()
        self._idle_thread.shutdown(wait=False, cancel_futures=True)
        self.encoders.close()
        if self._shared is not None:
            self._shared.close()
        self.poller.close()

    async def _judge(self) -> None:
        busy, replaced, encoded = 0.0, 0, 0
        while True:
            await asyncio.sleep(_JUDGE_SECONDS)
            pool = self.encoders
            self.last_second = recent = self.clock.recent
            self.clock.recent = Lateness()
            self.clock.total.merge(recent)
            self.last_second_video, self.clock.video = self.clock.video, Lateness()
            self.clock.total_video.merge(self.last_second_video)
            self.load.judge(
                (pool.busy_seconds - busy) / (_JUDGE_SECONDS * pool.threads),
                pool.replaced - replaced,
                pool.encoded - encoded,
                recent.quantile(0.99),
            )
            busy, replaced, encoded = pool.busy_seconds, pool.replaced, pool.encoded
