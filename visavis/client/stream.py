"""One conversation with an avatar, on whichever server can serve it.

The caller pushes audio and tells the time; frames and reports come back as events. Nothing here blocks the
caller, and losing a server loses no turn: it resumes on another one, in mid-sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import numpy as np
from numpy.typing import NDArray

from visavis.client.events import Delivery, OnEvent
from visavis.client.exchange import Exchange, Leave
from visavis.client.failover import Home, Homes, Refusal, Servers
from visavis.client.messages import (
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
from visavis.client.session import Conversation
from visavis.client.start_delay import StartDelay
from visavis.frames import Frame
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
        on_event: OnEvent | None = None,
    ) -> None:
        self.avatar = avatar
        self.session_id = session_id
        self.body_sha256 = body_sha256  # of the caller's copy; used when a server is opened next
        self.start_delay = StartDelay(avatar.fps)
        self.address: str | None = None  # the server of the moment
        self._servers = servers
        self._talk = Conversation(avatar.fps)
        self._delivery = Delivery(on_event, session_id)
        self._homes = Homes(servers, avatar, session_id)
        self._exchange: Exchange | None = None  # with the server of the moment
        self._next: Home | None = None
        self._move: asyncio.Task[None] | None = None  # away from a server that drains
        self._even: asyncio.Task[None] | None = None  # to an idler one, between turns
        self._timer: asyncio.TimerHandle | None = None
        self._served = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = logged(asyncio.create_task(self._run()), "avatar stream")

    # -- the caller's side --

    @property
    def opened(self) -> Opened | None:
        """What was agreed with the server of the moment."""
        return self._talk.opened

    @property
    def connected(self) -> bool:
        """A server is there."""
        return self.address is not None

    def start_turn(self, turn_id: int, epoch: int) -> None:
        """A turn begins. Raises ``ValueError`` on an epoch that is over or a turn id used just before."""
        self._talk.start_turn(turn_id, epoch)
        if self._next is not None and self._exchange is not None:
            self._exchange.leave(Leave(None, "the server drains"))
        self._served = False
        self._send()

    def push_audio(self, pcm: bytes | memoryview | NDArray[np.int16]) -> None:
        """Audio of the turn: s16le bytes or ``(n,)`` int16 samples, 16 kHz mono, any length.

        Bytes may end in the middle of a sample: the rest comes with the next ones, or is dropped where the turn
        ends. Without effect where no turn is open.
        """
        if isinstance(pcm, np.ndarray):
            pcm = np.ascontiguousarray(pcm, "<i2").tobytes()
        self._talk.push_audio(pcm, self._loop.time())
        self._send()

    def end_turn(self) -> None:
        """No more audio comes in the turn."""
        self._talk.end_turn()
        self._send()

    def anchor(self, sample: int, loop_index: int) -> None:
        """The body frame that is on screen when ``sample`` of the turn is heard."""
        self._talk.anchor(sample, loop_index)
        self._send()

    def playhead(self, sample: int, playing: bool = True) -> None:
        """The sample that is heard now, about once a frame; negative while the turn is still to start."""
        now = self._loop.time()
        if self._talk.playhead(sample, playing, now):
            self._send()
        if self._exchange is not None:
            limit = _STALL_S if self._served and self._homes.others(self.address) else _STALL_ALONE_S
            if self._talk.stalled(now, limit):
                reason = f"the avatar server at {self.address} has sent no frame for {limit:g} s"
                self._exchange.leave(Leave("stalled", reason))
        self._set_timer(now)

    def interrupt(self, epoch: int) -> None:
        """Everything older than ``epoch`` is dead: no frame of it is delivered from here on."""
        now = self._loop.time()
        self._delivery.forget_frames(epoch)
        self._delivery.put(self._talk.interrupt(epoch, now))
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
        if self._exchange is not None:
            self._exchange.wake()

    # -- time --

    def _set_timer(self, now: float) -> None:
        at = self._talk.deadline
        if self._timer is not None:
            if at is None or self._timer.when() <= at:
                return  # it fires early and looks again
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(max(at, now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._delivery.put(self._talk.check(now))
        self._set_timer(now)

    # -- servers, one after the other --

    async def _run(self) -> None:
        home: Home | None = None
        try:
            while True:
                home = self._next or await self._connect()
                self._next = None
                leave = await self._serve(home)
                self._homes.let_go(home)
                self._left(home.client.address, leave)
                home = None
        finally:
            for there in (home, self._next):
                if there is not None:
                    self._homes.let_go(there)

    async def _connect(self, exclude: Collection[str] = (), quiet: bool = False) -> Home:
        """A server with the avatar open on it, however long that takes."""
        told = quiet
        patience = self._loop.time() + _PATIENCE_S
        while True:
            client = self._servers.choose(self.avatar.avatar_id, exclude)
            if client is None:
                now = self._loop.time()
                if not told and now >= patience:
                    self._tell_nobody_is_there()
                    told = True
                await self._servers.wait_change(_RETRY_S if told else max(0.01, patience - now))
                continue
            choice = self._homes.others(self.address, client.address)
            deadline_s = _OPEN_BUSY_S if self._talk.busy and choice else _OPEN_S
            there = await self._homes.open(client, self.body_sha256, deadline_s)
            if isinstance(there, Home):
                return there
            if there.failure == "refused" and not told:
                self._delivery.put([Disconnected(client.address, there.reason)])
                told = True

    def _tell_nobody_is_there(self) -> None:
        self._delivery.put([Disconnected(None, "no avatar server can be used now")])
        turn = self._talk.turn
        if self._talk.rejected and turn is not None:
            self._delivery.put([TurnRejected(turn.turn_id, "no avatar server has a free speaking slot")])

    async def _serve(self, home: Home) -> Leave:
        """Talk to this server until it is left."""
        exchange = self._exchange = Exchange(home, self._talk, self._on_message, self.session_id)
        self._served = False
        resumed = self._talk.attach(home.link.opened)
        self.address = home.client.address
        about = {"session": self.session_id, "server": self.address, "resumed": resumed}
        log.info("avatar_server_opened", **about)
        self._delivery.put([Connected(self.address, home.link.opened, resumed)])
        try:
            return await exchange.run()
        finally:
            self._exchange = self._move = self._even = None

    def _left(self, address: str, leave: Leave) -> None:
        alone = leave.failure == "stalled" and not self._homes.others(self.address)
        if (
            leave.failure is not None and not alone
        ):  # alone: the same server, by a new stream, is the best bet
            self._servers.failed(address, leave.failure)
        self.address = None
        self._delivery.put(self._talk.detach())
        if self._next is None:
            about = {"session": self.session_id, "server": address, "reason": leave.reason}
            log.warning("avatar_server_left", **about)
            self._delivery.put([Disconnected(address, leave.reason)])

    # -- what the server of the moment says --

    def _on_message(self, message: ServerMessage) -> None:
        self._delivery.put(self._talk.on_message(message))
        exchange = self._exchange
        if exchange is None:
            return
        if isinstance(message, Frame):
            self._on_served(exchange)
        elif self._talk.rejected:
            exchange.leave(Leave("full", "the avatar server has no free speaking slot"))
        elif isinstance(message, TurnFinished):
            self._even_out(exchange)
        elif isinstance(message, GoAway) and self._move is None:
            if self._even is not None:
                self._even.cancel()
            self._servers.failed(exchange.home.client.address, "unavailable")
            self._move = exchange.alongside(self._move_on(exchange, message.deadline_ms / 1000))

    def _on_served(self, exchange: Exchange) -> None:
        if self._served:
            return
        self._served = True
        self._servers.served(exchange.home.client.address)
        turn = self._talk.turn
        if turn is not None and turn.frames == 1 and turn.first_audio_at is not None:
            self.start_delay.observe(self._loop.time() - turn.first_audio_at)

    async def _move_on(self, exchange: Exchange, deadline_s: float) -> None:
        """The server drains: open elsewhere now, go there between turns or just before the deadline."""
        until = self._loop.time() + max(0.0, deadline_s - _DRAIN_MARGIN_S)
        self._next = await self._connect((exchange.home.client.address,), quiet=True)
        while self._talk.unfinished and self._loop.time() < until:  # noqa: ASYNC110 - rare and short
            await asyncio.sleep(0.02)
        exchange.leave(Leave(None, "the server drains"))

    def _even_out(self, exchange: Exchange) -> None:
        """A turn is over: speak the next one on an idler server, where there is one."""
        if self._talk.busy or self._move is not None or (self._even is not None and not self._even.done()):
            return
        client = self._servers.better(exchange.home.client.address, self.avatar)
        if client is not None:
            self._even = exchange.alongside(self._move_over(exchange, client))

    async def _move_over(self, exchange: Exchange, client: ServerClient) -> None:
        there = await self._homes.open(client, self.body_sha256, _OPEN_S)
        if isinstance(there, Refusal):
            return
        if self._talk.busy or self._next is not None:  # a turn began meanwhile: it stays where it is
            self._homes.let_go(there)
            return
        self._next = there
        exchange.leave(Leave(None, "another server is idler"))
