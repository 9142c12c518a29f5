"""The avatar of one call: its speaker, its avatar stream, and the body that is played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction

from orchestrator.avatar.avatars import ReadyAvatar, WorkerAvatars
from orchestrator.avatar.source import PortraitFile
from orchestrator.avatar.still import grey_body
from orchestrator.media.sources import Body, StillBody
from orchestrator.worker.messages import LipsStats
from visavis.client.messages import AvatarReplaced, Connected, Disconnected, Event, TurnRejected
from visavis.client.model import Avatar
from visavis.client.replacement import ReplacementPace
from visavis.client.start_delay import StartDelay
from visavis.client.stream import AvatarStream
from visavis.frames import Frame
from visavis.playout.idle import IdleState, idle_path
from visavis.playout.playout import Picture, Playout
from visavis.playout.speaker import Speaker
from visavis.playout.turn import PCM, OnTurn
from visavis.service.unhandled import logged

OnAvatar = Callable[[str, str], None]
"""Called with ``ready | connected | lost | rejected | failed`` and one sentence."""


class NoAvatar:
    """The turn writer of a call without an avatar: turns are heard, no lips come."""

    def start_turn(self, turn_id: int, epoch: int) -> None: ...
    def push_audio(self, pcm: PCM) -> None: ...
    def end_turn(self) -> None: ...
    def anchor(self, sample: int, loop_index: int) -> None: ...
    def playhead(self, sample: int, playing: bool = True) -> None: ...
    def interrupt(self, epoch: int) -> None: ...


class CallAvatar:
    """One call's avatar: the media path's ``Voice`` and ``Face``. Belongs to the worker's event loop.

    Until the avatar is prepared the portrait is shown still and turns are only heard; the body is taken into
    use between turns. So is another one that is to be shown, before which the first one stays. ``state`` is asked
    for at each cut of the body while nothing is said.
    """

    def __init__(
        self,
        avatars: WorkerAvatars,
        portrait: PortraitFile,
        *,
        session_id: str,
        rate: int,
        on_turn: OnTurn,
        on_avatar: OnAvatar,
        trim_ms: int = 0,
        state: Callable[[], IdleState] = lambda: "idle",
    ) -> None:
        self._avatars = avatars
        self._state = state
        self._session_id = session_id
        self._on_avatar = on_avatar
        self._stream: AvatarStream | None = None
        self._streams = 0
        self._earlier = LipsStats()  # of avatars that were shown before
        self._playout: Playout
        self.body: Body
        self._ready: ReadyAvatar | None = None  # in use
        self._pending: ReadyAvatar | None = None
        self._pace = ReplacementPace()
        task = avatars.avatar(portrait)
        ready = task.result() if task.done() and not task.cancelled() and task.exception() is None else None
        self._waiting: asyncio.Task[None] | None = None
        self._playout = Playout(1, portrait.fps)
        self.body = grey_body(portrait.width, portrait.height) if ready is None else ready.body
        self.speaker = Speaker(
            rate=rate,
            fps=portrait.fps,
            avatar=NoAvatar(),
            playout=self._playout,
            start_delay=StartDelay(portrait.fps, initial_s=0.0),
            emit=on_turn,
            trim_ms=trim_ms,
        )
        if ready is not None:
            self._use(ready)
        else:
            self._waiting = asyncio.create_task(self._await_avatar(avatars.still(portrait), task))

    @property
    def playout(self) -> Playout:
        """The playout in use, with its counters."""
        return self._playout

    @property
    def connected(self) -> bool:
        """An inference server serves this call now."""
        return self._stream is not None and self._stream.connected

    @property
    def start_delay_s(self) -> float:
        """How long a turn waits for its lips."""
        return self._stream.start_delay.seconds if self._stream is not None else 0.0

    def read(self, packet: int) -> PCM | None:
        """See :class:`orchestrator.media.sources.Voice`."""
        return self.speaker.read(packet)

    def tick(self, frame: int) -> Picture:
        """See :class:`orchestrator.media.sources.Face`."""
        if self._pending is not None and not self.speaker.speaking:
            ready, self._pending = self._pending, None
            self._use(ready)
        return self.speaker.tick(frame)

    def figures(self) -> LipsStats:
        """The call's lips so far."""
        stats, stream, earlier = self._playout.stats, self._stream, self._earlier
        return LipsStats(
            frames_shown=earlier.frames_shown + stats.shown,
            frames_late=earlier.frames_late + stats.late,
            frames_dropped=earlier.frames_dropped + stats.dropped,
            freeze_ms=round(earlier.freeze_ms + stats.freeze_s * 1000, 1),
            first_frame_ms=None if stream is None else round(stream.start_delay.p95_s * 1000, 1),
        )

    def show(self, portrait: PortraitFile) -> None:
        """Another avatar from now on: between turns, once it is ready."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._pending = None
        self._waiting = asyncio.create_task(self._await_avatar(None, self._avatars.avatar(portrait)))

    def _replace(self, avatar: Avatar) -> None:
        """Servers of another version make another body of the portrait: that one, unless another is to come.

        Not time and again, where a call comes to servers of either version by turns: a while later then.
        """
        waits = self._waiting is not None and not self._waiting.done()
        if self._ready is None or self._pending is not None or waits:
            return
        self._waiting = asyncio.create_task(self._renew(self._ready, avatar))

    async def _renew(self, ready: ReadyAvatar, avatar: Avatar) -> None:
        await self._pace.wait()
        await self._await_avatar(None, self._avatars.prepared(ready.portrait, avatar, ready.source))

    async def close(self) -> None:
        """Let go of the avatar stream."""
        if self._waiting is not None:
            self._waiting.cancel()
        if self._stream is not None:
            await self._stream.close()
        self._waiting = self._stream = None

    async def _await_avatar(
        self, still: asyncio.Task[StillBody] | None, avatar: asyncio.Task[ReadyAvatar]
    ) -> None:
        """The avatar, and until then the still portrait, whichever is there first and whatever becomes of that."""
        if still is not None:
            await asyncio.wait([still, avatar], return_when=asyncio.FIRST_COMPLETED)
            if not avatar.done() and not still.cancelled() and still.exception() is None:
                self.body = still.result()
        try:
            self._pending = await asyncio.shield(avatar)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._on_avatar("failed", str(error))

    def _use(self, ready: ReadyAvatar) -> None:
        """Only between turns."""
        fps: Fraction = ready.avatar.fps
        length = len(ready.body)
        jumps = ready.body.jumps
        # Where jumps lead to the cached loop has a key frame (orchestrator.media.video.idle_loop).
        first = min((target for _, target in jumps), default=0)
        way = idle_path(length, ready.body.segments, self._session_id, self._state)
        if self._stream is not None:
            self._earlier = self.figures()
            logged(asyncio.create_task(self._stream.close()), "avatar stream")
        playout = Playout(length, fps, jumps=jumps, choose_jump=way, loop_index=first, follows_path=True)
        self._playout = playout
        self._ready = ready
        self._streams += 1
        # Servers know a conversation by its name, and the one before may not have ended there yet.
        name = self._session_id if self._streams == 1 else f"{self._session_id}.{self._streams}"
        self._stream = self._avatars.converse(ready, name, lambda event: self._on_event(playout, event))
        self.body = ready.body
        self.speaker.use(self._stream, self._playout, self._stream.start_delay)
        self._on_avatar("ready", "")

    def _on_event(self, playout: Playout, event: Event) -> None:
        if playout is not self._playout:
            return
        match event:
            case Frame():
                playout.on_frame(event)
            case Connected(address=address):
                self._on_avatar("connected", address)
            case AvatarReplaced(avatar=avatar):
                self._replace(avatar)
            case Disconnected(reason=reason):
                self._on_avatar("lost", reason)
            case TurnRejected(reason=reason):
                self._on_avatar("rejected", reason)
