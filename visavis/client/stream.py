"""The avatar stream: one conversation with an avatar, on whichever server can serve it.

The caller pushes audio and tells the time; frames and reports come back as events. Nothing here blocks the
caller, and losing a server loses no turn: it resumes on another one, in mid-sentence.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Collection

import numpy as np
from numpy.typing import NDArray

from visavis.client.events import Delivery, OnEvent
from visavis.client.failover import Leave, OpenRefusal, OpenSession, Servers, SessionOpener
from visavis.client.messages import (
    AvatarReplaced,
    Connected,
    Disconnected,
    Event,
    GoAway,
    ServerMessage,
    TurnFinished,
    TurnRejected,
)
from visavis.client.model import Avatar, Opened
from visavis.client.server import ServerClient
from visavis.client.session import SessionProtocol
from visavis.client.start_delay import StartDelay
from visavis.frames import SAMPLE_RATE, Frame
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log("visavis.client.stream")

_STALL_S = 0.28  # silence while frames are due, where another server can be used
_STALL_ALONE_S = 1.0  # the same without another server, and for the first frames of a turn
_OPEN_S = 2.0
_OPEN_BUSY_S = 1.0  # in mid-turn, where another server can be used
_RETRY_S = 1.0
_PATIENCE_S = 0.25  # what finding a server may take before the caller is told that there is none
_DRAIN_MARGIN_S = 0.5
_ANOTHER_BODY_S = 30.0  # before a server that made another body of the portrait is asked again


class AvatarStream:
    """One conversation's end. Use from the event loop's thread; no method but :meth:`close` waits.

    Turns are counted in samples of 16 kHz mono. ``start_delay`` knows how far ahead to start a turn. Events go
    to ``on_event`` as they come, or, without it, to ``async for event in stream``.
    """

    def __init__(
        self,
        servers: Servers,
        avatar: Avatar,
        *,
        session_id: str = "",
        body_sha256: bytes = b"",
        follows_path: bool = False,
        on_event: OnEvent | None = None,
    ) -> None:
        self.avatar = avatar
        self.session_id = session_id
        self.body_sha256 = body_sha256  # of the caller's copy; used when a server is opened next
        self.start_delay = StartDelay(avatar.fps)
        self.address: str | None = None  # the server of the moment
        self._servers = servers
        self._protocol = SessionProtocol(avatar.fps)
        self._delivery = Delivery(on_event, session_id)
        self._opener = SessionOpener(servers, avatar, session_id, follows_path)
        self._session: OpenSession | None = None  # on the server of the moment
        self._next: OpenSession | None = None
        self._move: asyncio.Task[None] | None = None  # away from a server that drains
        self._even: asyncio.Task[None] | None = None  # to an idler one, between turns
        self._timer: asyncio.TimerHandle | None = None
        self._served = False
        self._another_body: dict[str, tuple[Avatar, float]] = {}  # by server, and until when it is left out
        self._replaced = ""  # the id of the avatar that the caller was told of last
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = logged(asyncio.create_task(self._run()), "avatar stream")

    # -- the caller's side --

    @property
    def opened(self) -> Opened | None:
        """What was agreed with the server of the moment."""
        return self._protocol.opened

    @property
    def connected(self) -> bool:
        """A server is there."""
        return self.address is not None

    def start_turn(self, turn_id: int, epoch: int) -> None:
        """A turn begins. Raises ``ValueError`` on an epoch that is over or a turn id used just before."""
        self._protocol.start_turn(turn_id, epoch)
        if self._next is not None and self._session is not None:
            self._session.leave(Leave(None, "the server drains"))
        self._served = False
        self._send()

    def push_audio(self, pcm: bytes | memoryview | NDArray[np.int16]) -> None:
        """Audio of the turn: s16le bytes or ``(n,)`` int16 samples, 16 kHz mono, any length.

        Bytes may end in the middle of a sample: the rest comes with the next ones, or is dropped where the turn
        ends. Without effect where no turn is open.
        """
        if isinstance(pcm, np.ndarray):
            pcm = np.ascontiguousarray(pcm, "<i2").tobytes()
        self._protocol.push_audio(pcm, self._loop.time())
        self._send()

    def end_turn(self) -> None:
        """No more audio comes in the turn."""
        self._protocol.end_turn()
        self._send()

    def anchor(self, sample: int, loop_index: int) -> None:
        """The body frame that is on screen when ``sample`` of the turn is heard."""
        self._protocol.anchor(sample, loop_index)
        self._send()

    def playhead(self, sample: int, playing: bool = True) -> None:
        """The sample that is heard now, about once a frame; negative while the turn is still to start."""
        now = self._loop.time()
        if self._protocol.playhead(sample, playing, now):
            self._send()
        if self._session is not None:
            limit = _STALL_S if self._served and self._opener.others(self.address) else _STALL_ALONE_S
            if self._protocol.stalled(now, limit):
                reason = f"the avatar server at {self.address} has sent no frame for {limit:g} s"
                self._session.leave(Leave("stalled", reason))
        self._set_timer(now)

    def interrupt(self, epoch: int) -> None:
        """Everything older than ``epoch`` is dead: no frame of it is delivered from here on."""
        now = self._loop.time()
        self._delivery.forget_frames(epoch)
        self._delivery.put(self._protocol.interrupt(epoch, now))
        self._send()
        self._set_timer(now)

    def __aiter__(self) -> AsyncIterator[Event]:
        return aiter(self._delivery)

    async def close(self) -> None:
        """End the conversation."""
        self._delivery.close()
        if self._timer is not None:
            self._timer.cancel()
        # A cancelled task holds its traceback, and that leads here: let go, or only the garbage collector can.
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _send(self) -> None:
        if self._session is not None:
            self._session.wake()

    # -- time --

    def _set_timer(self, now: float) -> None:
        at = self._protocol.deadline
        if self._timer is not None:
            if at is None or self._timer.when() <= at:
                return  # it fires early and looks again
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(max(at, now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._delivery.put(self._protocol.check(now))
        self._set_timer(now)

    # -- servers, one after the other --

    async def _run(self) -> None:
        session: OpenSession | None = None
        try:
            while True:
                session = self._next or await self._connect()
                self._next = None
                leave = await self._serve(session)
                self._opener.let_go(session)
                self._left(session.client.address, leave)
                session = None
        finally:
            for there in (session, self._next):
                if there is not None:
                    self._opener.let_go(there)

    async def _connect(self, exclude: Collection[str] = (), quiet: bool = False) -> OpenSession:
        """A server with the avatar open on it, however long that takes."""
        told = quiet
        patience = self._loop.time() + _PATIENCE_S
        while True:
            now = self._loop.time()
            left_out = {at: avatar for at, (avatar, until) in self._another_body.items() if until > now}
            client = self._servers.choose(self.avatar.avatar_id, {*exclude, *left_out})
            if client is None:
                another = self._servers.choose(self.avatar.avatar_id, exclude)
                if another is not None:  # there is nobody else
                    self._tell_replaced(left_out[another.address])
                if not told and now >= patience:
                    self._tell_nobody_is_there()
                    told = True
                await self._servers.wait_change(_RETRY_S if told else max(0.01, patience - now))
                continue
            choice = self._opener.others(self.address, client.address)
            deadline_s = _OPEN_BUSY_S if self._protocol.busy and choice else _OPEN_S
            there = await self._opener.open(client, self.body_sha256, deadline_s)
            if isinstance(there, OpenSession):
                return there
            if there.instead is not None:
                until = self._loop.time() + _ANOTHER_BODY_S
                self._another_body[client.address] = there.instead, until
            if there.failure == "refused" and not told:
                self._delivery.put([Disconnected(client.address, there.reason)])
                told = True

    def _tell_replaced(self, avatar: Avatar) -> None:
        if avatar.avatar_id != self._replaced:
            self._replaced = avatar.avatar_id
            self._delivery.put([AvatarReplaced(avatar)])

    def _tell_nobody_is_there(self) -> None:
        self._delivery.put([Disconnected(None, "no avatar server can be used now")])
        turn = self._protocol.turn
        if self._protocol.rejected and turn is not None:
            self._delivery.put([TurnRejected(turn.turn_id, "no avatar server has a free speaking slot")])

    async def _serve(self, session: OpenSession) -> Leave:
        """Talk to this server until it is left."""
        self._session = session
        self._served = False
        resumed = self._protocol.attach(session.link.opened)
        self.address = session.client.address
        about = {"session": self.session_id, "server": self.address, "resumed": resumed}
        log.info("avatar_server_opened", **about)
        self._delivery.put([Connected(self.address, session.link.opened, resumed)])
        there = session.link.opened.avatar
        if self.body_sha256 and there.body_sha256 != self.body_sha256:
            self._tell_replaced(there)
        try:
            return await session.run(self._protocol, self._on_message)
        finally:
            self._session = self._move = self._even = None

    def _left(self, address: str, leave: Leave) -> None:
        alone = leave.failure == "stalled" and not self._opener.others(self.address)
        if leave.failure is not None and not alone:  # alone: the same server by a new stream is the best bet
            self._servers.failed(address, leave.failure)
        self.address = None
        self._delivery.put(self._protocol.detach())
        if self._next is None:
            about = {"session": self.session_id, "server": address, "reason": leave.reason}
            log.warning("avatar_server_left", **about)
            self._delivery.put([Disconnected(address, leave.reason)])

    # -- what the server of the moment says --

    def _on_message(self, message: ServerMessage) -> None:
        self._delivery.put(self._protocol.on_message(message))
        session = self._session
        if session is None:
            return
        if isinstance(message, Frame):
            self._on_served(session, message)
        elif self._protocol.rejected:
            session.leave(Leave("full", "the avatar server has no free speaking slot"))
        elif isinstance(message, TurnFinished):
            self._even_out(session)
        elif isinstance(message, GoAway) and self._move is None:
            if self._even is not None:
                self._even.cancel()
            self._servers.failed(session.client.address, "unavailable")
            self._move = session.alongside(self._move_on(session, message.deadline_ms / 1000))

    def _on_served(self, session: OpenSession, frame: Frame) -> None:
        if not self._served:
            self._served = True
            self._servers.served(session.client.address)
        turn = self._protocol.turn
        if turn is None or turn.turn_id != frame.turn_id:  # the turn before closes its mouth yet
            return
        if turn.frames == 1 and turn.first_audio_at is not None:
            took = self._loop.time() - turn.first_audio_at
            self.start_delay.observe(took, math.inf if turn.ended else turn.end / SAMPLE_RATE - took)

    async def _move_on(self, session: OpenSession, deadline_s: float) -> None:
        """The server drains: open elsewhere now, go there between turns or just before the deadline."""
        until = self._loop.time() + max(0.0, deadline_s - _DRAIN_MARGIN_S)
        self._next = await self._connect((session.client.address,), quiet=True)
        while self._protocol.unfinished and self._loop.time() < until:  # noqa: ASYNC110 - rare and short
            await asyncio.sleep(0.02)
        session.leave(Leave(None, "the server drains"))

    def _even_out(self, session: OpenSession) -> None:
        """A turn is over: speak the next one on an idler server, where there is one."""
        moves = self._move is not None or (self._even is not None and not self._even.done())
        if self._protocol.busy or moves:
            return
        client = self._servers.better(session.client.address, self.avatar)
        if client is not None:
            self._even = session.alongside(self._move_over(session, client))

    async def _move_over(self, session: OpenSession, client: ServerClient) -> None:
        there = await self._opener.open(client, self.body_sha256, _OPEN_S)
        if isinstance(there, OpenRefusal):
            return
        if self._protocol.busy or self._next is not None:  # a turn began meanwhile: it stays where it is
            self._opener.let_go(there)
            return
        self._next = there
        session.leave(Leave(None, "another server is idler"))
