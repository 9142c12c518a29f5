"""Who listens to callers: a call's voice comes from its worker only while somebody wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.calls.follower import Follower
from orchestrator.worker.messages import CallMessage, Heard, Listen

RATE = 16_000
_KEPT = 50
Take = Callable[[Heard], None]


@dataclass(frozen=True, slots=True)
class CallerAudio:
    """A stretch of the caller's voice: mono int16 PCM at 16 kHz, and where in the call's sound it lies.

    A ``position`` beyond the end of the stretch before is sound that was left out for want of time.
    """

    position: int
    pcm: NDArray[np.int16]


class Listener(Follower[CallerAudio]):
    """One that listens: see :class:`Follower`.

    Two seconds are kept for one that is slow; then the oldest are ``dropped``.
    """

    def __init__(self, close: Callable[[Listener], None]) -> None:
        super().__init__(close)
        self.dropped = 0

    def put(self, audio: CallerAudio) -> None:
        """Something was heard."""
        if len(self._kept) >= _KEPT:
            self._kept.popleft()
            self.dropped += 1
        self.keep(audio)


class Listening:
    """Every call's listeners; ``send`` is the way to the workers."""

    def __init__(self, send: Callable[[CallMessage], None]) -> None:
        self._send = send
        self._listeners: dict[str, list[Listener]] = {}
        self._taps: dict[str, Take] = {}
        self._recorders: dict[str, Take] = {}

    def listen(self, call_id: str) -> Listener:
        """Hear a call under way from now on."""
        listener = Listener(lambda gone: self._leave(call_id, gone))
        self._listeners.setdefault(call_id, []).append(listener)
        self._tell(call_id)
        return listener

    def tap(self, call_id: str, take: Take | None) -> None:
        """Have a call's sound as it comes from the worker, with what the caller was sent; ``None``: no more."""
        self._use(self._taps, call_id, take)

    def record(self, call_id: str, take: Take | None) -> None:
        """The same for a recorder: it gets silence before the caller has sent anything."""
        self._use(self._recorders, call_id, take)

    def heard(self, message: Heard) -> None:
        """A worker sent a call's voice."""
        for takers in (self._taps, self._recorders):
            if take := takers.get(message.call_id):
                take(message)
        if listeners := self._listeners.get(message.call_id):
            voice = message.payload[: len(message.payload) - message.reference]
            audio = CallerAudio(message.position, np.frombuffer(voice, "<i2").astype(np.int16))
            for listener in listeners:
                listener.put(audio)

    def ended(self, call_id: str) -> None:
        """A call is over."""
        self._taps.pop(call_id, None)
        self._recorders.pop(call_id, None)
        for listener in self._listeners.pop(call_id, ()):
            listener.end()

    def _use(self, takers: dict[str, Take], call_id: str, take: Take | None) -> None:
        if take is not None:
            takers[call_id] = take
        else:
            takers.pop(call_id, None)
        self._tell(call_id)

    def _leave(self, call_id: str, listener: Listener) -> None:
        listeners = self._listeners.get(call_id, [])
        if listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[call_id]
                self._tell(call_id)

    def _tell(self, call_id: str) -> None:
        recorded = call_id in self._recorders
        wanted = recorded or call_id in self._taps or call_id in self._listeners
        self._send(Listen(call_id, wanted, recorded))
