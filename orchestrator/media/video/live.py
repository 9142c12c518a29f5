"""A call's own encoder: compose, encode and cut into packets on a small pool, one picture waiting at most."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from orchestrator.media.parameters import Encoding
from orchestrator.media.sources import Body
from orchestrator.media.video.encoder import H264Encoder
from orchestrator.media.video.scale import Fitter
from orchestrator.rtp import h264
from orchestrator.rtp.packet import HEADER_SIZE
from visavis.playout.compositor import Compositor
from visavis.playout.playout import Picture
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log(__name__)


@dataclass(slots=True, eq=False)
class LivePicture:
    """One picture on its way: ``packets`` once ``done``; ``dropped`` where a newer one took its place."""

    picture: Picture
    body: Body
    idr: bool
    fresh: bool
    timestamp: int
    due: float = 0.0
    packets: list[bytearray] = field(default_factory=list)
    done: bool = False
    dropped: bool = False


class EncoderPool:
    """The threads that encode, behind the clock in priority, and how busy they are."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or os.cpu_count() or 1
        self.executor: Executor = ThreadPoolExecutor(self.threads, "encoder", be_nice, (2,))
        self.busy_seconds = 0.0
        self.encoded = 0
        self.replaced = 0
        self._lock = threading.Lock()

    def account(self, seconds: float) -> None:
        """One picture took this long."""
        with self._lock:
            self.busy_seconds += seconds
            self.encoded += 1

    def close(self) -> None:
        """Stop; pictures that wait are not encoded."""
        self.executor.shutdown(wait=False, cancel_futures=True)


def be_nice(steps: int) -> None:
    """Put the calling thread behind the main thread, which is the clock's, by some nice steps."""
    # On Linux a thread has its own nice value, and inherits that of the thread that starts it. Few steps: a
    # thread that holds the interpreter while other processes run in its place holds up the clock as well.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, os.getpid()) + steps)


def _untold() -> None:
    """Nobody waits for the picture."""


class LiveEncoder:
    """Pictures in order; made for one call and never shared.

    ``coded`` is called after each, on the pool's thread.
    """

    def __init__(
        self, pool: EncoderPool, encoding: Encoding, mode: int, coded: Callable[[], None] = _untold
    ) -> None:
        self._pool = pool
        self._coded = coded
        self._encoding = self._wanted = encoding
        self._mode = mode
        self._compositor = Compositor()
        self._fitter = Fitter(encoding.width, encoding.height)
        self._encoder: H264Encoder | None = None
        self._waiting: LivePicture | None = None
        self._scheduled = False
        self._closed = False
        self._broken = False
        self._lock = threading.Lock()
        self.encode_seconds = 0.0

    def submit(self, picture: LivePicture) -> None:
        """Queue a picture; one that still waits is dropped, and its key frame passes to this one."""
        with self._lock:
            old, self._waiting = self._waiting, picture
            if old is not None:
                old.dropped = True
                picture.idr |= old.idr
                picture.fresh |= old.fresh
                self._pool.replaced += 1
            if self._scheduled or self._closed:
                return
            self._scheduled = True
        logged(self._pool.executor.submit(self._run), "encoder")

    def limit(self, bits_per_second: int) -> None:
        """Code for at most so many bits per second: less at once, with a key frame; more from the next one."""
        self._wanted = replace(self._encoding, bitrate=min(self._encoding.bitrate, bits_per_second))

    def cancel(self) -> None:
        """Drop the picture that waits: a key frame from elsewhere follows."""
        with self._lock:
            if self._waiting is not None:
                self._waiting.dropped = True
                self._waiting = None

    def rest(self) -> None:
        """Give the encoder's memory back until it is needed again."""
        with self._lock:
            if not self._scheduled:
                self._encoder = None

    def close(self) -> None:
        """No more pictures."""
        self.cancel()
        self._closed = True
        self._coded = _untold
        self.rest()

    def _run(self) -> None:
        with self._lock:
            job, self._waiting = self._waiting, None
        if job is not None and self._closed:
            job.dropped = True
        elif job is not None:
            started = time.thread_time()
            try:
                self._encode(job)
            except Exception:
                # The next picture gets a new encoder and starts with a key frame.
                log.exception("picture_not_encoded")
                self._encoder, self._broken, job.dropped = None, True, True
            self.encode_seconds = time.thread_time() - started
            self._pool.account(self.encode_seconds)
            job.done = True
            self._coded()
        with self._lock:
            if self._waiting is None or self._closed:
                self._scheduled = False
                return
        logged(self._pool.executor.submit(self._run), "encoder")

    def _encode(self, job: LivePicture) -> None:
        idr = job.idr or self._broken
        # Only the bitrate differs, which is in no parameter set: what is cached still joins.
        wanted, current = self._wanted, self._encoder.encoding if self._encoder else None
        if current is None or wanted.bitrate < current.bitrate or (idr and wanted != current):
            self._encoder, idr = H264Encoder(wanted), True
        assert self._encoder is not None
        if job.fresh:
            self._compositor.forget()
        self._encoder.write(self._fitter.fit(self._compositor.compose(job.picture, job.body)))
        units = self._encoder.encode(idr)
        job.idr, self._broken = idr, False
        job.packets = [bytearray(HEADER_SIZE) + payload for payload in h264.packetize(units, self._mode)]
