"""The avatar session: speech of any rate in, pictures with the sound that goes with them out, in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from fractions import Fraction
from types import TracebackType
from typing import Protocol

from visavis.client.body_cache import Body, BodyCache
from visavis.client.events import OnEvent
from visavis.client.messages import AvatarReplaced, Connected, Disconnected, Event, TurnRejected
from visavis.client.model import Avatar, AvatarSource
from visavis.client.replacement import Replacement
from visavis.client.stream import AvatarStream
from visavis.errors import ServerUnavailable
from visavis.frames import Frame
from visavis.playout.attention import Attention, FaceState
from visavis.playout.idle import idle_path
from visavis.playout.player import FacePicture, Player, SpeechFinished, SpeechStarted
from visavis.playout.playout import Playout
from visavis.playout.turn import PCM
from visavis.service.logs import Log

__all__ = ["AvatarSession", "FacePicture", "FaceState", "SessionEvent", "SpeechFinished", "SpeechStarted"]

SessionEvent = SpeechStarted | SpeechFinished | Connected | Disconnected | TurnRejected
"""What ``on_event`` is called with."""

log = Log(__name__)

_JITTER = 0.5
"""Of a picture: how late one may be without putting off those after it."""


class SessionServers(Protocol):
    """Who prepares avatars and opens streams; :class:`visavis.ServerPool` is one."""

    async def ready(
        self,
        source: AvatarSource,
        bodies: BodyCache,
        *,
        avatar: Avatar | None = None,
        on_wait: Callable[[str], None] = ...,
    ) -> tuple[Avatar, Body]: ...

    def open(
        self,
        avatar: Avatar,
        *,
        source: AvatarSource | None = None,
        session_id: str = "",
        body_sha256: bytes = b"",
        follows_path: bool = False,
        on_event: OnEvent | None = None,
    ) -> AvatarStream: ...


class AvatarSession:
    """One conversation with a face; :meth:`visavis.ServerPool.session` makes it. Belongs to one event loop.

    ``async with`` waits until the avatar can be shown: :class:`InvalidRequest` on a portrait that cannot be used,
    :class:`ServerUnavailable` where no server has made it within ``timeout_s`` (``None``: it is waited for). A
    server that is lost later costs lips, never sound.
    """

    def __init__(
        self,
        servers: SessionServers,
        source: AvatarSource,
        *,
        bodies: BodyCache | None = None,
        session_id: str = "",
        on_event: Callable[[SessionEvent], None] | None = None,
        timeout_s: float | None = 60.0,
    ) -> None:
        self._servers = servers
        self._source = source
        self._bodies = bodies
        self._session_id = session_id
        self._on_event = on_event
        self._timeout_s = timeout_s
        self._stream: AvatarStream | None = None
        self._streams = 0
        self._next: tuple[Avatar, Body] | None = None  # to be shown once nothing is said
        self._replacement = Replacement(self._replace)
        self._attention = Attention(time.monotonic)
        self._opened: Player | None = None
        self._readers = 0

    async def __aenter__(self) -> AvatarSession:
        if self._stream is not None:
            raise RuntimeError("an avatar session is opened once: make another one")
        avatar, body = await self._ready()
        playout, stream = self._open(avatar, body)
        self._opened = Player(body, playout, stream, stream.start_delay, self._tell)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the conversation; who reads pictures gets no more."""
        self._readers += 1
        if self._stream is not None:
            await self._stream.close()
        await self._replacement.close()

    # -- what it is --

    @property
    def width(self) -> int:
        """Of the pictures, in pixels."""
        return self._source.width

    @property
    def height(self) -> int:
        """Of the pictures, in pixels."""
        return self._source.height

    @property
    def fps(self) -> Fraction:
        """Pictures a second."""
        return Fraction(self._source.fps)

    @property
    def connected(self) -> bool:
        """A server draws now; without one the voice and the idle loop go on."""
        return self._stream is not None and self._stream.connected

    @property
    def speaking(self) -> bool:
        """Speech was fed that has not gone out to its end."""
        return self._player.speaking

    # -- speech in --

    def feed(self, pcm: PCM | bytes | bytearray | memoryview, rate: int) -> None:
        """Speech at ``rate`` Hz, mono, int16 or s16le bytes of any length, at any speed; the first begins a turn.

        Raises ``ValueError`` on a rate outside of 4 to 192 kHz.
        """
        self._player.feed(pcm, rate)

    def end_turn(self) -> None:
        """The voice has said what it had to say; what is fed next is the next turn, said after this one."""
        self._player.end_turn()

    def interrupt(self) -> float:
        """Cut the voice: silence and a mouth at rest from the next picture on, whatever was fed is dropped.

        Returns the seconds of its turn that went out, 0 where nothing was said.
        """
        return self._player.interrupt()

    # -- what the face does while nothing is said --

    def show_state(self, state: FaceState | None) -> None:
        """What the conversation does from now on; ``None``, as it begins: :meth:`user_speaks` tells.

        Who is ``thinking`` does so until the first sound of a turn. Without effect on what is said.
        """
        self._attention.tell(state or "")

    def user_speaks(self, speaks: bool) -> None:
        """The user begins to speak, or pauses: the face listens, nods at a pause, then seems to think."""
        self._attention.voice(speaks)

    # -- pictures and sound out --

    async def play(self, rate: int) -> AsyncGenerator[tuple[FacePicture, PCM | None], None]:
        """Pictures in real time, idle included, each with the sound from it to the next at ``rate`` Hz.

        The sound is ``(n,)`` int16 mono, ``None`` in silence. There is one reader: another one ends the one before.
        Raises ``ValueError`` on a rate outside of 4 to 192 kHz.
        """
        player = self._player
        player.use_rate(rate)
        self._readers += 1
        me, period = self._readers, float(1 / self.fps)
        clock = asyncio.get_running_loop()
        due = clock.time()
        while True:
            await asyncio.sleep(max(0.0, due - clock.time()))
            if me != self._readers:
                return
            # What plays the sound as it comes is behind from now on: so are the pictures, else they would be ahead.
            if clock.time() - due > _JITTER * period:
                due = clock.time()
            due += period
            if self._next is not None and not player.speaking:
                self._show(*self._next)
            yield player.tick()

    # -- inside --

    @property
    def _player(self) -> Player:
        if self._opened is None:
            raise RuntimeError("the avatar session is not open: use it in `async with`")
        return self._opened

    def _open(self, avatar: Avatar, body: Body) -> tuple[Playout, AvatarStream]:
        loop = idle_path(len(body), body.segments, self._session_id, self._attention.state)
        playout = Playout(len(body), body.fps, jumps=body.jumps, choose_jump=loop, follows_path=True)
        self._streams += 1
        # Servers know a conversation by its name, and the one before may not have ended there yet.
        name = self._session_id if self._streams == 1 else f"{self._session_id}.{self._streams}"
        self._stream = stream = self._servers.open(
            avatar,
            source=self._source,
            session_id=name,
            body_sha256=body.sha256,
            follows_path=True,
            on_event=self._on_stream,
        )
        return playout, stream

    async def _replace(self, avatar: Avatar) -> None:
        """The servers that there are make another body of the portrait: fetch that one."""
        bodies = self._bodies if self._bodies is not None else await asyncio.to_thread(BodyCache)
        self._next = await self._servers.ready(self._source, bodies, avatar=avatar)

    def _show(self, avatar: Avatar, body: Body) -> None:
        """Only while nothing is said."""
        self._next, before = None, self._stream
        playout, stream = self._open(avatar, body)
        self._player.use(body, playout, stream, stream.start_delay)
        if before is not None:
            self._replacement.retire(before.close())

    async def _ready(self) -> tuple[Avatar, Body]:
        waits_for = "the avatar is being prepared"

        def on_wait(reason: str) -> None:
            nonlocal waits_for
            waits_for = reason or waits_for

        bodies = self._bodies if self._bodies is not None else await asyncio.to_thread(BodyCache)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._servers.ready(self._source, bodies, on_wait=on_wait)
        except TimeoutError:
            raise ServerUnavailable(
                f"the avatar cannot be shown after {self._timeout_s or 0:g} s: {waits_for}"
            ) from None

    def _tell(self, event: SessionEvent) -> None:
        if isinstance(event, SpeechStarted):
            self._attention.answer()
        try:
            if self._on_event is not None:
                self._on_event(event)
        except Exception:
            log.exception("event_handler_failed", session=self._session_id)

    def _on_stream(self, event: Event) -> None:
        if isinstance(event, Frame):
            if self._opened is not None:
                self._opened.on_frame(event)
        elif isinstance(event, AvatarReplaced):
            if self._next is None:
                self._replacement.begin(event.avatar)
        elif isinstance(event, Connected | Disconnected | TurnRejected):
            self._tell(event)
