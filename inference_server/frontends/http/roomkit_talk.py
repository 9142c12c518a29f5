"""One socket of RoomKit's own client: audio in; whole RGB24 frames and an empty message out, after each audio.

The client blocks until the empty message comes. It never tells what is heard, ends no turn and sends its audio
as it gets it, so turns are made here: one begins with the first audio and ends with a flush or with a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.websockets import WebSocket

from inference_server.core import Core
from inference_server.engines.base import BodyLoop
from inference_server.errors import RequestError, invalid, unavailable
from inference_server.frontends import describe
from inference_server.frontends.http.socket import receive
from inference_server.streams.responses import FrameReady, TurnFinished, TurnRejected
from inference_server.streams.stream import Stream
from visavis.audio import Resampler, WholeSamples
from visavis.avatar.v1.contract import Anchor, Audio, EndOfTurn, Interrupt, Playhead, TurnStart
from visavis.client.model import settled
from visavis.frames import SAMPLE_RATE, frame_at, frame_start

PAUSE_S = 1.5  # RoomKit shows its idle picture 2 s after the last audio
WAIT_S = 1.0  # for the frames that an audio message settles
CLOSING_S = 2.0  # for those that a flush brings
RETRY_S = 1.0  # after a turn that found no speaking slot

HEADER = struct.Struct("!HH")
"""Width and height of the RGB24 picture that follows."""


def picture(body: BodyLoop, index: int) -> bytes:
    """A body frame as it travels here."""
    head = HEADER.pack(body.width, body.height)
    return head + cv2.cvtColor(body.frame(index), cv2.COLOR_YUV2RGB_I420).tobytes()


class StockTalk:
    """Serves one open stream."""

    def __init__(self, core: Core, stream: Stream, sample_rate: int) -> None:
        body = stream.avatar.body
        self._stream = stream
        self._fps = stream.fps
        self._head = HEADER.pack(body.width, body.height)
        self._resampler = Resampler(sample_rate)
        self._whole = WholeSamples()  # speech comes in pieces of any length, odd ones too
        self._opened = describe.opened(core, stream)
        self._piece = core.settings.audio_bytes // 2
        self._most = core.settings.turn_ms * SAMPLE_RATE // 1000
        self._epoch = 0
        self._turn_id = 0
        self._on = False
        self._rejected_at: float | None = None
        self._fed = 0
        self._next = 0  # the number of the frame that is sent next

    async def serve(self, websocket: WebSocket) -> None:
        """To the end of the socket. Raises :class:`RequestError` where the client or the server ends it."""
        reading: asyncio.Task[Any] | None = None
        ended = asyncio.create_task(self._stream.ended.wait())
        try:
            while True:
                reading = reading or asyncio.create_task(receive(websocket))
                await asyncio.wait(
                    {reading, ended},
                    timeout=PAUSE_S if self._on else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._check()
                if not reading.done():
                    self._drop_turn()  # a pause gives the speaking slot back
                    self._whole.reset()
                    continue
                data, reading = reading.result(), None
                if data is None:
                    return
                if isinstance(data, str):
                    raise invalid("A text message came: this socket takes binary PCM (s16le) only.")
                if data:
                    await self._feed(websocket, self._resampler.push(self._whole.push(data)))
                else:
                    await self._flush(websocket)
                await websocket.send_bytes(b"")
        finally:
            tasks = [task for task in (reading, ended) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, websocket: WebSocket, pcm: NDArray[np.int16]) -> None:
        if self._on and self._fed + len(pcm) > self._most:
            self._drop_turn()
        if not self._on:
            if not len(pcm):
                return
            self._begin()
        self._push(pcm)
        await self._take(websocket, frame_at(settled(self._opened, self._fed), self._fps), WAIT_S)

    async def _flush(self, websocket: WebSocket) -> None:
        self._whole.reset()
        tail = self._resampler.flush()
        if not self._on:
            return
        self._push(tail)
        self._stream.take(EndOfTurn(self._turn_id, self._epoch))
        closing = self._stream.session.parameters.closing_frames
        last = frame_at(max(self._fed - 1, 0), self._fps) + 1 + closing
        await self._take(websocket, last, CLOSING_S)
        self._drop_turn()

    def _begin(self) -> None:
        self._on, self._rejected_at = True, None
        self._turn_id += 1
        self._fed = self._next = 0
        self._stream.take(TurnStart(self._turn_id, self._epoch, 0))
        self._stream.take(Anchor(self._turn_id, self._epoch, 0, 0))  # what was on screen is the idle picture

    def _drop_turn(self) -> None:
        if self._on:
            self._on = False
            self._epoch += 1
            self._resampler.reset()
            self._stream.take(Interrupt(self._epoch))

    def _push(self, pcm: NDArray[np.int16]) -> None:
        for at in range(0, len(pcm), self._piece):
            piece = pcm[at : at + self._piece]
            pcm_bytes = piece.astype("<i2").tobytes()
            self._stream.take(Audio(self._turn_id, self._epoch, self._fed, pcm_bytes))
            self._fed += len(piece)

    async def _take(self, websocket: WebSocket, end: int, wait_s: float) -> None:
        """Send frames up to number ``end``; those that do not come in time are left out."""
        stream = self._stream
        until = time.monotonic() + wait_s + end / float(self._fps) * 0.5
        with contextlib.suppress(TimeoutError):
            while self._next < end and self._rejected_at is None:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    said = await stream.outbox.get()
                match said:
                    case None:
                        self._check()
                        raise unavailable("The stream has ended: open another one.")
                    case FrameReady() if said.epoch == self._epoch and said.number >= self._next:
                        pixels = stream.pictures.whole_rgb(self._head, said)
                        await websocket.send({"type": "websocket.send", "bytes": pixels})
                        self._next = said.number + 1
                        self._playhead()
                    case TurnFinished(turn_id) if turn_id == self._turn_id:
                        return
                    case TurnRejected():
                        self._rejected_at = time.monotonic()
        if self._rejected_at is None:
            self._next = max(self._next, end)
            self._playhead()
            return
        while self._next < end:  # no lips, but the body moves
            await websocket.send_bytes(picture(stream.avatar.body, self._next))
            self._next += 1
        if time.monotonic() - self._rejected_at > RETRY_S:
            self._drop_turn()  # the next audio tries again

    def _playhead(self) -> None:
        sample = frame_start(self._next, self._fps)
        self._stream.take(Playhead(self._turn_id, self._epoch, sample, False))

    def _check(self) -> None:
        error: RequestError | None = self._stream.error
        if error is not None:
            raise error
