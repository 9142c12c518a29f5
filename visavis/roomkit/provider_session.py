"""One provider's avatar session: its stream, its pacer, and pictures for whoever watches.

Lives in the provider's background loop; the methods without ``async`` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.client.body_cache import Body, BodyCache
from visavis.client.messages import AvatarReplaced, Event
from visavis.client.model import Avatar, AvatarSource
from visavis.client.pool import ServerPool
from visavis.client.replacement import Replacement
from visavis.client.stream import AvatarStream
from visavis.frames import I420, SAMPLE_RATE, Frame
from visavis.playout.attention import Attention
from visavis.playout.compositor import Compositor
from visavis.playout.idle import idle_path
from visavis.playout.pacer import Pacer
from visavis.playout.picture import Picture
from visavis.playout.playback import Playback
from visavis.playout.playout import Playout
from visavis.playout.pull import PullMode
from visavis.rgb import to_rgb
from visavis.roomkit.types import VideoFrame
from visavis.service.unhandled import logged

_BACKLOG = 2  # pictures that may wait for a slow watcher; older ones are drawn but not shown
_LINGER_S = 5.0  # paced pictures go on this long after the last audio where no end is told


class Shown(NamedTuple):
    """A picture of a paced turn and its body; when it is due (monotonic), the turn heard then and its sample
    (16 kHz)."""

    picture: Picture
    body: Body
    due: float
    heard: tuple[int, int] | None


class ProviderSession:
    """The session of one provider.

    ``show`` is called with each picture while a turn is on, from a thread of its own (``paced``); with those of
    idle too where it is ``continuous``. ``attention`` says what the face waits for while nothing is said.
    """

    def __init__(
        self,
        pool: ServerPool,
        source: AvatarSource,
        bodies: BodyCache,
        show: Callable[[VideoFrame], None],
        *,
        attention: Attention,
        codec: str = "raw_rgb24",
        paced: bool = True,
        continuous: bool = False,
        delay_s: float = 0.0,
        wait_s: float = 1.0,
        playback: Playback | None = None,
    ) -> None:
        self._pool = pool
        self._source = source
        self._bodies = bodies
        self._playback = playback
        self._attention = attention
        self._seed = secrets.token_hex(8)
        self._show = show
        self._codec = codec
        self._paced = paced
        self._continuous = continuous
        self._delay_s = delay_s
        self._wait_s = wait_s
        self._body: Body
        self._playout: Playout
        self._compositor = Compositor()
        self._lock = threading.RLock()  # over body, playout, compositor and pacer
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None
        self._told_end = True
        self._last_fed = 0.0
        self._turn = 0  # heard last
        self._underway = 0  # samples that were fed and that the loop has not taken yet
        self._sequence = 0
        self._began = time.monotonic()
        self._shown: VideoFrame | None = None
        self._pictures: queue.SimpleQueue[Shown | None] = queue.SimpleQueue()
        self._watcher: threading.Thread | None = None
        self._stream: AvatarStream | None = None
        self._pacer: Pacer | None = None
        self._pull: PullMode | None = None
        self._next: tuple[Avatar, Body] | None = None  # to be shown once nothing is said
        self._replacement = Replacement(self._replace)

    def open(self, avatar: Avatar, body: Body) -> None:
        """Open the conversation; in the background loop."""
        self._use(avatar, body)
        if self._paced:
            self._watcher = threading.Thread(target=self._watch, name="visavis-pictures", daemon=True)
            self._watcher.start()
            if self._continuous:
                self._begin()

    async def close(self) -> None:
        """End the session."""
        await self._replacement.close()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        with self._lock:  # what others feed yet has no effect
            self._pacer = self._pull = None
        if self._stream is not None:
            await self._stream.close()
        self._pictures.put(None)
        if self._watcher is not None and self._watcher is not threading.current_thread():
            await asyncio.to_thread(self._watcher.join, 5.0)

    # -- from any thread --

    def feed(self, pcm: NDArray[np.int16]) -> None:
        """Audio of a paced turn."""
        if len(pcm):
            with self._lock:
                self._underway += len(pcm)
            self._call(self._feed, pcm)

    def end(self) -> None:
        """The end of a paced turn."""
        self._call(self._end)

    def interrupt(self) -> None:
        """Cut the turn."""
        self._call(self._interrupt)

    def follow(self, playback: Playback | None) -> None:
        """Pace turns by this playback from now on, ``None``: by what is fed."""
        with self._lock:
            self._playback = playback
            if self._pacer is not None:
                self._pacer.playback = playback

    @property
    def ahead_s(self) -> float:
        """Seconds of audio that were fed and not shown yet."""
        with self._lock:
            return self._pacer.ahead_s + self._underway / SAMPLE_RATE if self._pacer is not None else 0.0

    def feed_and_wait(self, pcm: NDArray[np.int16], end: bool = False) -> list[VideoFrame]:
        """Audio of an unpaced turn; the pictures that it settles, waiting for them a moment."""
        if self._pull is None:
            return []
        work = self._settle(self._pull, pcm, end)
        try:
            body, pictures = asyncio.run_coroutine_threadsafe(work, self._loop).result(self._wait_s * 2 + 5)
        except (TimeoutError, RuntimeError):
            return []
        return [self._frame(self._compositor.compose(p, body), body) for p in pictures]

    def idle_frame(self) -> VideoFrame:
        """The loop's next picture; while a turn is on, the picture that is on."""
        with self._lock:
            if self._ticking is not None and self._shown is not None:
                return self._shown
            picture = self._playout.tick(None)
            self._shown = self._frame(self._compositor.compose(picture, self._body), self._body)
            return self._shown

    # -- in the loop --

    def _call(self, function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(function, *args)

    def _use(self, avatar: Avatar, body: Body) -> None:
        """Show this body from now on; only while nothing is said."""
        way = idle_path(len(body), body.segments, self._seed, self._attention.state)
        playout = Playout(len(body), body.fps, jumps=body.jumps, choose_jump=way, follows_path=self._paced)
        stream = self._pool.open(
            avatar,
            source=self._source,
            body_sha256=body.sha256,
            follows_path=self._paced,
            on_event=self._on_event,
        )
        with self._lock:
            before, self._stream = self._stream, stream
            self._body, self._playout = body, playout
            if self._pacer is not None:
                self._pacer.use(playout, stream)
            elif self._pull is not None:
                self._pull.use(playout, stream)
            elif self._paced:
                self._pacer = Pacer(playout, stream, delay_s=self._delay_s, playback=self._playback)
            else:
                self._pull = PullMode(playout, stream, self._news, self._wait_s)
        if before is not None:
            self._replacement.retire(before.close())

    async def _replace(self, avatar: Avatar) -> None:
        """The servers that there are make another body of the portrait: fetch that one."""
        self._next = await self._pool.ready(self._source, self._bodies, avatar=avatar)
        self._use_next()

    def _use_next(self) -> None:
        """Where another body is there and nothing is said."""
        turns = self._pacer or self._pull
        if self._next is not None and turns is not None and turns.idle:
            (avatar, body), self._next = self._next, None
            self._use(avatar, body)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, AvatarReplaced) and self._next is None:
            self._replacement.begin(event.avatar)
        if isinstance(event, Frame):
            with self._lock:
                if self._pacer is not None:
                    self._pacer.on_frame(event)
                else:
                    self._playout.on_frame(event)
        self._news.set()

    def _feed(self, pcm: NDArray[np.int16]) -> None:
        if self._pacer is None:
            return
        self._told_end, self._last_fed = False, self._loop.time()
        self._use_next()
        with self._lock:
            self._underway -= len(pcm)
            self._pacer.feed(pcm, self._last_fed)
            self._begin()

    async def _settle(self, pull: PullMode, pcm: NDArray[np.int16], end: bool) -> tuple[Body, list[Picture]]:
        """The pictures that this audio settles, and their body."""
        self._use_next()
        if len(pcm) and pull.idle:
            self._attention.answer()
        body, pictures = self._body, await pull.feed(pcm, end)
        self._use_next()
        return body, pictures

    def _begin(self) -> None:
        """From here on the body moves by ticks alone."""
        if self._ticking is None:
            self._ticking = logged(self._loop.create_task(self._tick()), "pictures")

    def _end(self) -> None:
        self._told_end = True
        if self._pacer is not None:
            with self._lock:
                self._pacer.end()

    def _interrupt(self) -> None:
        self._told_end = True
        with self._lock:
            if self._pacer is not None:
                self._pacer.interrupt()
            if self._pull is not None:
                self._pull.interrupt()
        self._use_next()

    async def _tick(self) -> None:
        """Paces the pictures of a turn; a clock that is late catches up without showing."""
        pacer = self._pacer
        if pacer is None:
            return
        start, count, period = self._loop.time(), 0, float(1 / self._body.fps)
        try:
            while True:
                due = start + count * period
                self._use_next()
                with self._lock:
                    picture = pacer.tick(due)
                    self._pictures.put(Shown(picture, self._body, due, pacer.heard))
                if pacer.heard is not None and pacer.heard[0] != self._turn:
                    self._turn = pacer.heard[0]
                    self._attention.answer()
                count += 1
                over = self._told_end or due - self._last_fed > _LINGER_S
                if over and pacer.idle and not self._continuous:
                    self._use_next()
                    return
                await asyncio.sleep(max(0.0, start + count * period - self._loop.time()))
        finally:
            self._ticking = None

    # -- pictures --

    def _watch(self) -> None:
        while (shown := self._pictures.get()) is not None:
            with self._lock:
                drawn = self._compositor.compose(shown.picture, shown.body)
                if self._pictures.qsize() > _BACKLOG:
                    continue
                drawn = drawn.copy()  # an idle picture may be drawn while this one is converted
            frame = self._frame(drawn, shown.body, shown.due, shown.heard)
            with self._lock:
                self._shown = frame
            self._show(frame)

    def _frame(
        self, picture: I420, body: Body, due: float | None = None, heard: tuple[int, int] | None = None
    ) -> VideoFrame:
        width, height = body.width, body.height
        pixels = to_rgb(picture, width, height) if self._codec == "raw_rgb24" else picture
        self._sequence += 1
        return VideoFrame(
            data=pixels.tobytes(),
            codec=self._codec,
            width=width,
            height=height,
            timestamp_ms=((time.monotonic() if due is None else due) - self._began) * 1000,
            keyframe=True,
            sequence=self._sequence,
            metadata={
                "speaking": heard is not None,
                "turn": heard and heard[0],
                "sample": heard and heard[1],
            },
        )
