"""An open stream: a session, its outbox, and what happens around them. Every face of the server uses this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from inference_server.avatars.store import StoredAvatar
from inference_server.errors import RequestError, invalid
from inference_server.metrics import Metrics
from inference_server.streams.outbox import ResponseQueue
from inference_server.streams.pictures import Pictures
from inference_server.streams.responses import (
    FrameReady,
    Response,
    Stats,
    TurnAccepted,
    TurnFinished,
    TurnRejected,
)
from inference_server.streams.session import Session
from inference_server.streams.stream_devices import StreamDevices
from visavis.avatar.v1.contract import Anchor, Audio, EndOfTurn, Interrupt, Playhead, TurnStart
from visavis.frames import SAMPLE_RATE
from visavis.service.logs import Log

STATS_S = 5.0


class Stream:
    """Requests in by method, responses out through ``outbox``; ``error`` says why it ended."""

    def __init__(
        self,
        session: Session,
        outbox: ResponseQueue,
        avatar: StoredAvatar,
        devices: StreamDevices,
        pictures: Pictures,
        metrics: Metrics,
        log: Log,
        on_close: Callable[[Stream], None],
    ) -> None:
        self.session = session
        self.outbox = outbox
        self.avatar = avatar
        self.devices = devices
        self.pictures = pictures
        self.error: RequestError | None = None
        self.log = log
        self.last_heard = time.monotonic()
        self.ended = asyncio.Event()  # the server wants it to end
        self._metrics = metrics
        self._on_close = on_close
        self._closed = False
        self._half_closed = False
        self._told_stats = 0.0
        self._dropped_counted = 0

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        return self.session.parameters.fps

    # --- the client -----------------------------------------------------------------------------------

    def take(self, request: Any) -> None:
        """A request after Open. Raises :class:`RequestError` where the client made a mistake."""
        session, now = self.session, self._now()
        match request:
            case Audio(turn_id, epoch, first_sample, pcm):
                session.audio(turn_id, epoch, first_sample, pcm, now)
            case Playhead(turn_id, epoch, sample, playing):
                session.playhead(turn_id, epoch, sample, playing, now)
                if sample > 0:
                    self.outbox.heard(turn_id, sample - int(SAMPLE_RATE / self.fps))
                self.devices.touch()
            case TurnStart(turn_id, epoch, render_from):
                session.turn_start(turn_id, epoch, render_from, now)
            case Anchor(turn_id, epoch, sample, loop_index):
                session.anchor(turn_id, epoch, sample, loop_index, now)
                self.devices.touch()
            case EndOfTurn(turn_id, epoch):
                session.end_of_turn(turn_id, epoch, now)
            case Interrupt(epoch):
                session.interrupt(epoch, now)
                self.devices.pump()
            case _:
                raise invalid(
                    "Open: this stream is open already: open another stream for another conversation."
                )

    def unpaced(self, frame: FrameReady) -> None:
        """A frame has been taken by a client without a playhead: what it has taken counts as heard.

        So the window bounds what is drawn beyond that, and nothing is ever late.
        """
        before = 0 if frame.last else int(SAMPLE_RATE / self.fps)
        self.take(Playhead(frame.turn_id, frame.epoch, frame.sample - before, True))

    def half_close(self) -> None:
        """The client sends no more: what has ended is finished, then the stream ends."""
        self._half_closed = True
        self.tick(self._now())

    # --- the server -----------------------------------------------------------------------------------

    def say(self, response: Response) -> None:
        """A response of the session, on its way out."""
        match response:
            case TurnAccepted():
                self._metrics.turns.labels("accepted").inc()
                self.log.debug("turn_accepted", turn_id=response.turn_id)
            case TurnRejected():
                self._metrics.turns.labels("rejected").inc()
                self.log.info("turn_rejected", turn_id=response.turn_id, reason=response.reason)
            case TurnFinished():
                self._metrics.turns.labels("finished").inc()
                self._metrics.frames_late.inc(response.late)
                self.log.info(
                    "turn_finished", turn_id=response.turn_id, frames=response.frames, late=response.late
                )
            case FrameReady():
                pass
            case _:
                self.log.debug(type(response).__name__.lower())
        self.outbox.put(response)

    def tick(self, now: float) -> None:
        """A few times a second: idle turns expire, what was counted is told."""
        self.session.expire(now)
        if self._half_closed and (not self.session.speaking or self.session.waits_for_client):
            self.outbox.close()
        if self.outbox.overflowed:
            self.end(
                RequestError("resource_exhausted", "The client reads nothing: its responses are piling up.")
            )
        if self.outbox.dropped > self._dropped_counted:
            self._metrics.frames_dropped.inc(self.outbox.dropped - self._dropped_counted)
            self._dropped_counted = self.outbox.dropped
        if self.session.speaking and now - self._told_stats >= STATS_S:
            self._told_stats = now
            self.outbox.put(
                Stats(_p95(self.devices.queue_ms), _p95(self.devices.render_ms), self.session.late_so_far)
            )

    def end(self, error: RequestError) -> None:
        """The server ends the stream with this error, after what is in the outbox."""
        if self.error is None:
            self.error = error.with_traceback(None)  # it would keep the request that was refused
        self.outbox.close()
        self.ended.set()

    def close(self) -> None:
        """The stream is over; idempotent."""
        if self._closed:
            return
        self._closed = True
        self.session.close()
        self.outbox.close()
        self._on_close(self)

    def _now(self) -> float:
        self.last_heard = time.monotonic()
        return self.last_heard


def _p95(values: Iterable[float]) -> int:
    ordered = sorted(values)
    return round(ordered[int(len(ordered) * 0.95)]) if ordered else 0
