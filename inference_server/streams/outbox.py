"""Responses of one stream on their way to its client: bounded, and frames that came too late leave it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from inference_server.streams.responses import FrameReady, Interrupted, Response

MOST_CONTROL = 1024


class ResponseQueue:
    """A queue with one reader. A client that stops reading costs at most a window of frames."""

    def __init__(self, most_frames: int) -> None:
        self.dropped = 0
        self.overflowed = False  # the client reads nothing and yet goes on asking
        self._most_frames = most_frames
        self._queue: deque[Response] = deque()
        self._frames = 0
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, response: Response) -> None:
        """Add a response. An ``Interrupted`` takes the frames of older epochs out."""
        if isinstance(response, Interrupted):
            self._drop(lambda f: f.epoch < response.epoch)
        if isinstance(response, FrameReady):
            self._frames += 1
        elif len(self._queue) - self._frames >= MOST_CONTROL:
            self.overflowed = True
            self.close()
            return
        self._queue.append(response)
        if self._frames > self._most_frames:
            self._drop_oldest()
        self._wake.set()

    def heard(self, turn_id: int, before_sample: int) -> None:
        """Frames of the turn that end before ``before_sample`` are of no use any more."""
        if self._frames:
            self._drop(lambda f: f.turn_id == turn_id and f.sample < before_sample and not f.last)

    async def get(self) -> Response | None:
        """The next response; ``None`` once closed and empty."""
        while not self._queue:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        response = self._queue.popleft()
        if isinstance(response, FrameReady):
            self._frames -= 1
        return response

    def close(self) -> None:
        """Nothing more comes; what is inside can still be read."""
        self._closed = True
        self._wake.set()

    def __len__(self) -> int:
        return len(self._queue)

    def _drop(self, useless: Callable[[FrameReady], bool]) -> None:
        kept = deque(r for r in self._queue if not (isinstance(r, FrameReady) and useless(r)))
        gone = len(self._queue) - len(kept)
        if gone:
            self._queue, self._frames, self.dropped = kept, self._frames - gone, self.dropped + gone

    def _drop_oldest(self) -> None:
        for place, response in enumerate(self._queue):
            if isinstance(response, FrameReady) and not response.last:
                del self._queue[place]
                self._frames -= 1
                self.dropped += 1
                return
