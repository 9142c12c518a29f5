"""The audio of the turns in the engine process, listened to in slices so that no turn makes the others wait.

Clients take turns by the time that their audio took (deficit round robin), and the turns of a client among
themselves, so that a client with many has no more than one with a single turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from inference_server.engine import messages as m
from inference_server.engines.base import Engine, EngineDead, Handle, Levelled, Track

SLICE_BYTES = 6400  # 200 ms of 16 kHz s16le
SHARE_S = 0.004  # of listening between two looks at what is to be drawn
MOST_CLIENTS = 1024  # whose debts are remembered
QUANTUM_S = 0.001  # of listening for a client before the next one


@dataclass(slots=True)
class _Client:
    behind: deque[int] = field(
        default_factory=deque
    )  # its tracks with audio to listen to; the next one first
    credit: float = QUANTUM_S


@dataclass(slots=True)
class _Voice:
    track: Track
    client: str
    audio: deque[memoryview] = field(default_factory=deque)  # not listened to yet
    ended: bool = False  # no more audio comes
    heard_end: bool = False
    told: int = -1
    told_end: bool = False

    @property
    def behind(self) -> bool:
        return bool(self.audio) or (self.ended and not self.heard_end)


class Voices:
    """Takes audio messages at once and has the engine hear them later, turn about. Raises only
    :class:`EngineDead`: an engine that stumbles over a turn loses this turn, which is told as ``Failed``."""

    def __init__(
        self, engine: Engine, handles: Mapping[str, Handle], send: Callable[[m.Message], None]
    ) -> None:
        self._engine = engine
        self._handles = handles
        self._send = send
        self._voices: dict[int, _Voice] = {}
        self._clients: dict[str, _Client] = {}
        self._order: deque[str] = deque()  # clients with audio to listen to; the next one first

    @property
    def busy(self) -> bool:
        """There is audio to listen to."""
        return bool(self._order)

    def track(self, number: int) -> Track | None:
        """The engine's track; ``None`` once it is closed or failed."""
        voice = self._voices.get(number)
        return voice.track if voice is not None else None

    def take(self, message: m.OpenTrack | m.Append | m.EndTrack | m.CloseTrack) -> None:
        """A message about a turn's audio."""
        number = message.track
        if isinstance(message, m.OpenTrack):
            self._guard(number, lambda: self._open(message))
            return
        voice = self._voices.get(number)
        if voice is None:
            return
        if isinstance(message, m.CloseTrack):
            del self._voices[number]
            self._guard(number, voice.track.close)
            return
        if not voice.behind:
            client = self._clients[voice.client]
            if not client.behind:
                self._order.append(voice.client)
            client.behind.append(number)
        if isinstance(message, m.EndTrack):
            voice.ended = True
        else:
            audio = memoryview(message.payload)
            voice.audio.extend(audio[at : at + SLICE_BYTES] for at in range(0, len(audio), SLICE_BYTES))

    def listen(self) -> None:
        """Let the engine hear some of what waits, a slice a turn, and tell which frames became ready."""
        until = time.monotonic() + SHARE_S
        touched: set[int] = set()
        while self._order:
            name = self._order[0]
            client = self._clients[name]
            if client.credit <= 0:
                client.credit += QUANTUM_S
                self._order.rotate(-1)
                continue
            number = client.behind.popleft()
            began = time.monotonic()
            voice = self._voices.get(number)
            if voice is not None:
                self._guard(number, lambda voice=voice: _hear(voice))  # type: ignore[misc]
                touched.add(number)
                if voice.behind and number in self._voices:
                    client.behind.append(number)
            now = time.monotonic()
            client.credit -= now - began
            if not client.behind:
                self._order.popleft()
                client.credit = min(client.credit, QUANTUM_S)
            if now >= until:
                break
        for number in touched:
            self._tell(number)

    def _open(self, message: m.OpenTrack) -> None:
        handle = self._handles[message.avatar_id]
        track = self._engine.track(handle, Fraction(*message.fps), message.origin)
        if message.level is not None and isinstance(track, Levelled):
            track.expect(message.level)
        self._voices[message.track] = _Voice(track, message.client)
        if message.client not in self._clients:
            if len(self._clients) >= MOST_CLIENTS:
                here = {voice.client for voice in self._voices.values()}
                self._clients = {name: each for name, each in self._clients.items() if name in here}
            self._clients[message.client] = _Client()

    def _tell(self, number: int) -> None:
        voice = self._voices.get(number)
        if voice is None:
            return
        frames = voice.track.ready()
        if frames != voice.told or voice.heard_end != voice.told_end:
            voice.told, voice.told_end = frames, voice.heard_end
            level = voice.track.level if isinstance(voice.track, Levelled) else None
            self._send(m.Ready(number, frames, voice.heard_end, level))

    def _guard(self, number: int, work: Callable[[], None]) -> None:
        try:
            work()
        except EngineDead:
            raise
        except Exception as error:
            self._voices.pop(number, None)
            name = type(error).__name__
            self._send(m.Failed("track", str(number), name, f"{name}: {error}"))


def _hear(voice: _Voice) -> None:
    if voice.audio:
        pcm = np.frombuffer(voice.audio.popleft(), "<i2").astype(np.int16, copy=False)
        voice.track.append(pcm)
    if voice.ended and not voice.audio:
        voice.track.end()
        voice.heard_end = True
