"""A call that is recorded: what of its sound and pictures goes to the recorder, and the parts that came of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.archive.entries import RecordingPart
from orchestrator.calls.call import Call
from orchestrator.calls.turns import TurnRecord
from orchestrator.recording.messages import RecordedPicture, RecordedSound, RecorderMessage
from orchestrator.worker.messages import Heard, Viewed

_PIECE_S = 0.02


class CallTape:
    """A call that is recorded: implements :class:`orchestrator.calls.call.Witness`."""

    def __init__(
        self,
        call: Call,
        send: Callable[[RecorderMessage], object],
        on_key: Callable[[CallTape, str], None],
        on_end: Callable[[CallTape], None],
    ) -> None:
        self.call = call
        self._paused, self._resumed_at = False, 0.0
        self.number = 0
        """Of the last part."""
        self.last_piece = 0
        self.parts: dict[int, RecordingPart] = {}
        self.announcement: TurnRecord | None = None
        """The last one; None where none is set."""
        self.dropped = ""
        """Why nothing of it is kept; "": it is."""
        self._send, self._on_key, self._on_end = send, on_key, on_end
        self._zero: float | None = None
        self._waits = True

    @property
    def announced(self) -> bool:
        """Whether the caller heard the announcement to its end, if one is set; a voice may end without a sound."""
        turn = self.announcement
        return turn is None or (turn.state == "finished" and turn.heard_ms > 0)

    @property
    def paused(self) -> bool:
        """Whether what comes is left out."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        if self._paused and not paused:
            self._resumed_at = time.time()
        self._paused = paused

    @property
    def left_out_until(self) -> float:
        """The end of the last pause; now in one (seconds since the epoch)."""
        return time.time() if self._paused else self._resumed_at

    def leaves_out(self, since: float) -> bool:
        return self._paused or since < self._resumed_at

    def on_key(self, digit: str) -> None:
        self._on_key(self, digit)

    def on_end(self) -> None:
        self._on_end(self)

    def time_of(self, piece: int) -> float:
        """When a 20 ms step was sent, in seconds since the epoch."""
        return (time.time() if self._zero is None else self._zero) + piece * _PIECE_S

    def heard(self, message: Heard) -> None:
        """A step of sound."""
        if self._zero is None:
            self._zero = time.time() - message.piece * _PIECE_S
        self.last_piece = message.piece
        sound = (0, message.rate, b"") if self.paused else (message.reference, message.rate, message.payload)
        self._send(RecordedSound(message.call_id, message.piece, *sound))

    def viewed(self, message: Viewed) -> None:
        """A picture: after a pause from the next key frame on."""
        if self.paused or (self._waits and not message.key):
            return
        self._waits = False
        ticks = (message.timestamp - message.start) & 0xFFFFFFFF
        expected = self.last_piece * 1800
        ticks += round((expected - ticks) / (1 << 32)) * (1 << 32)  # it wraps every thirteen hours
        self._send(RecordedPicture(message.call_id, ticks, message.key, message.payload))

    def begin_anew(self) -> None:
        """Pictures are of no use before the next key frame."""
        self._waits = True
