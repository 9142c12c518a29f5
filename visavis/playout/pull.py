"""Pull mode: pictures of a turn as soon as their audio is fed, at whatever speed that is."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
from numpy.typing import NDArray

from visavis.client.model import settled
from visavis.client.stream import AvatarStream
from visavis.frames import frame_start
from visavis.playout.picture import Picture
from visavis.playout.playout import Playout


class PullMode:
    """The turns of one stream in pull mode. Belongs to one event loop; ``news`` is set with every event.

    ``wait_s``: how long a piece of audio waits for its pictures, in all.
    """

    def __init__(self, playout: Playout, stream: AvatarStream, news: asyncio.Event, wait_s: float) -> None:
        self._playout = playout
        self._stream = stream
        self._news = news
        self._wait_s = wait_s
        self._turn_id = 0
        self._epoch = 0
        self._on = False
        self._fed = 0
        self._next = 0  # the frame of the turn that is returned next

    @property
    def idle(self) -> bool:
        """Nothing is being said."""
        return not self._on

    def use(self, playout: Playout, stream: AvatarStream) -> None:
        """Take another avatar. Raises ``RuntimeError`` in a turn."""
        if self._on:
            raise RuntimeError("an avatar is changed between turns")
        self._playout, self._stream = playout, stream

    async def feed(self, pcm: NDArray[np.int16], end: bool) -> list[Picture]:
        """The pictures that this audio (16 kHz mono) settles; all that is left at the end of the turn."""
        if not self._on:
            if not len(pcm):
                return []
            self._begin()
        self._fed += len(pcm)
        self._stream.push_audio(pcm)
        until = asyncio.get_running_loop().time() + self._wait_s
        pictures: list[Picture] = []
        if end:
            self._stream.end_turn()
            self._playout.end_turn(self._fed)
            while frame_start(self._next, self._playout.fps) < self._fed or not self._playout.idle:
                pictures.append(await self._take(until))
            self._on = False
            return pictures
        opened = self._stream.opened
        known = settled(opened, self._fed) if opened else self._fed
        while frame_start(self._next + 1, self._playout.fps) <= known:
            pictures.append(await self._take(until))
        return pictures

    def interrupt(self) -> None:
        """Cut the turn."""
        self._epoch += 1
        self._on = False
        self._playout.interrupt()
        self._stream.interrupt(self._epoch)

    def _begin(self) -> None:
        self._on = True
        self._turn_id += 1
        self._fed = self._next = 0
        anchor = self._playout.begin_turn(self._turn_id, self._epoch, 0)
        self._stream.start_turn(self._turn_id, self._epoch)
        self._stream.anchor(anchor.sample, anchor.loop_index)
        self._stream.playhead(0, False)

    async def _take(self, until: float) -> Picture:
        """The next frame of the turn, or what a late one is replaced by."""
        sample = frame_start(self._next, self._playout.fps)
        self._stream.playhead(sample, False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self._stream.connected and not self._playout.ready(sample):
                    self._news.clear()
                    await self._news.wait()
        self._next += 1
        return self._playout.tick(sample if sample < self._fed else None)
