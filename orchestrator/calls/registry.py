"""The calls of this orchestrator: taken in, placed, told what their media workers report, and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence

from orchestrator.calls.call import Call, figures_of
from orchestrator.calls.dial_plan import DialLimits, DialPlan, DialRule
from orchestrator.calls.events import EventBus
from orchestrator.calls.gateway import (
    CallEnd,
    DialOrder,
    DialRefused,
    Gateway,
    Invitation,
    RefusedInvitation,
    Signalling,
)
from orchestrator.calls.listeners import Listener, Listening
from orchestrator.calls.portraits import DEFAULT, AvatarCatalog, Portrait
from orchestrator.calls.records import RecordBook, make_record, refused_record
from orchestrator.calls.viewers import Viewer, Viewing
from orchestrator.config import Settings
from orchestrator.speech.base import VoiceByLanguage
from orchestrator.worker.messages import CallMessage, CallOpened, CloseVideo, Heard, Message, Viewed
from orchestrator.worker.pool import NoRoom, WorkerPool

ENDED_KEPT = 100
ENDING_S = 2.0
"""What calls may take to end when the orchestrator does; whoever has not acknowledged is hung up all the same."""


class CallRegistry:
    """Every call under way, whichever gateway it came by, and the last ones that have ended."""

    def __init__(
        self,
        settings: Settings,
        pool: WorkerPool,
        catalog: AvatarCatalog,
        voices: VoiceByLanguage,
        bus: EventBus,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._catalog = catalog
        self._voices = voices
        self._bus = bus
        self._under_way: dict[str, Call] = {}
        self._ended: list[Call] = []
        self.records = RecordBook()
        self.refused = 0
        self.on_answered: Callable[[Call], None] = lambda call: None
        """Is told of each call that is answered."""
        self.on_begin: Callable[[Call], None] = lambda call: None
        """The same before its first words."""
        self._listening = Listening(pool.send)
        self._viewing = Viewing(pool.send)
        self.dial_plan = DialPlan(
            [DialRule.parse(text) for text in settings.dial_plan],
            DialLimits(settings.dial_per_minute, settings.dial_at_once, settings.dial_minutes),
            settings.dial_region,
        )

    # -- what the API asks --

    @property
    def calls(self) -> Sequence[Call]:
        """The last answered ones that have ended, then the answered ones under way."""
        return self._ended + [call for call in self._under_way.values() if call.answered_at is not None]

    def call(self, call_id: str) -> Call | None:
        """The answered call with this id."""
        return next((call for call in self.calls if call.call_id == call_id), None)

    @property
    def active(self) -> int:
        """Calls under way."""
        return len(self._under_way)

    def trace(self, call_id: str) -> str | None:
        """A call's messages of signalling: "" where none were kept, None of an ended one that has none."""
        call = self._under_way.get(call_id)
        trace = call.signalling.trace if call is not None else self.records.trace(call_id)
        if trace is None:
            return None if call is None else ""
        return trace.text()

    def start_trace(self, call_id: str) -> bool:
        """Keep a call's messages of signalling from now on; whether it is under way."""
        if call := self._under_way.get(call_id):
            call.signalling.start_trace()
        return call is not None

    def listen(self, call_id: str) -> Listener:
        """The caller's voice of a call under way, from now on."""
        return self._listening.listen(call_id)

    def view(self, call_id: str) -> Viewer:
        """The pictures of a call under way, from the next key frame on."""
        return self._viewing.view(call_id)

    def tap(self, call_id: str, take: Callable[[Heard], None] | None) -> None:
        """See :meth:`orchestrator.calls.listeners.Listening.tap`."""
        self._listening.tap(call_id, take)

    def record(
        self,
        call_id: str,
        heard: Callable[[Heard], None] | None = None,
        viewed: Callable[[Viewed], None] | None = None,
    ) -> None:
        """Hand on everything of a call that a recorder wants, from now on; without these: nothing any more."""
        self._listening.record(call_id, heard)
        self._viewing.record(call_id, viewed)

    async def dial(self, gateway: Gateway, order: DialOrder) -> str:
        """Call somebody; returns the call's id at once.

        Raises :class:`DialRefused`, or ``SpeechError`` where no voice speaks the language; what becomes of the
        call is told by events.
        """
        if order.text.strip():
            self._voices.check(order.language)
        if self._catalog.get(order.avatar) is None:
            raise DialRefused(f"there is no avatar '{order.avatar}': GET /v1/avatars lists them")
        call_id = secrets.token_hex(6)
        try:
            ports = await self._open(call_id, order.video, ": try again later")
        except NoRoom as error:
            raise DialRefused(str(error)) from None
        portrait = self._catalog.for_user(order.avatar)  # erased meanwhile: the default one
        try:
            signalling = gateway.dial(call_id, order, ports)
        except DialRefused:
            self.dial_plan.ended(call_id, time.monotonic())
            await self._pool.close_call(call_id)
            raise
        call = self._add(call_id, signalling, portrait, order.text, order.language)
        call.assistant = order.assistant
        return call_id

    def erased(self, portrait: Portrait) -> None:
        """A portrait is gone: calls that are not answered yet will show the default one, the others keep it."""
        for call in self._under_way.values():
            if call.answered_at is None and call.portrait == portrait:
                call.portrait = self._catalog.for_user(DEFAULT)

    # -- what gateways tell --

    def under_way(self, call_id: str) -> Call | None:
        """The call with this id, answered or not, until it has ended."""
        return self._under_way.get(call_id)

    async def accept(
        self, call_id: str, invitation: Invitation, *, video: bool, bundle: bool = False
    ) -> None:
        """Answer a call that came in with the avatar that was dialled; ``video``: it may be shown one; ``bundle``:
        all its media share one transport.

        Raises :class:`NoRoom`, and what answering raises; :meth:`end` is due in the second case only.
        """
        ports = await self._open(call_id, video, bundle=bundle)
        portrait = self._catalog.for_user(invitation.dialled)
        settings = self._settings
        self._add(call_id, invitation, portrait, settings.first_words, settings.language)
        if invitation.ended is not None:  # cancelled meanwhile
            await self.end(call_id, invitation.ended)
        else:
            invitation.answer(ports)

    async def open_video(self, call_id: str) -> int | None:
        """Open video ports of a call that has none: the port of RTP, None where there is none to be had."""
        return await self._pool.open_video(call_id)

    def close_video(self, call_id: str) -> None:
        """Close video ports of a call that nothing was agreed for."""
        self._pool.send(CloseVideo(call_id))

    def refuse(self, refusal: RefusedInvitation) -> None:
        """There was no room for a call."""
        self.refused += 1
        avatar = self._catalog.for_user(refusal.dialled).name
        self.records.refuse(refused_record(refusal, avatar, time.time()))

    def forget(self, call_id: str) -> None:
        """Keep nothing of a call that has ended."""
        self._ended = [call for call in self._ended if call.call_id != call_id]
        self.records.forget(call_id)

    async def end(self, call_id: str, end: CallEnd) -> None:
        """A call's signalling is over: give everything back. Nothing happens to one that is not under way."""
        call = self._under_way.pop(call_id, None)
        if call is None:
            return
        self._listening.ended(call_id)
        self._viewing.ended(call_id)
        self.dial_plan.ended(call_id, time.monotonic())
        call.on_end(end)
        if call.answered_at is not None:
            self._ended = [*self._ended, call][-ENDED_KEPT:]
        stats = await self._pool.close_call(call_id)
        if stats is not None:
            call.stats |= figures_of(stats)
        self.records.add(make_record(call, end), call.signalling.trace)
        call.over.set()

    # -- media workers --

    def on_message(self, message: Message) -> None:
        """What calls' media workers report."""
        if isinstance(message, Heard):
            self._listening.heard(message)
        elif isinstance(message, Viewed):
            self._viewing.viewed(message)
        elif isinstance(message, CallMessage) and (call := self._under_way.get(message.call_id)):
            call.take(message)

    # -- life --

    async def emptied(self) -> None:
        """Returns when no call is under way."""
        while self._under_way:
            await next(iter(self._under_way.values())).over.wait()

    async def close(self) -> None:
        """Hang up every call and wait until each has ended, but not for those that are not acknowledged yet."""
        calls = list(self._under_way.values())
        for call in calls:
            call.hang_up("shutdown")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                for call in calls:
                    await call.over.wait()

    # -- inside --

    async def _open(self, call_id: str, video: bool, advice: str = "", *, bundle: bool = False) -> CallOpened:
        if len(self._under_way) >= self._settings.max_calls:
            raise NoRoom(f"{self._settings.max_calls} calls are under way already{advice}")
        return await self._pool.open_call(call_id, video=video, bundle=bundle)

    def _add(
        self, call_id: str, signalling: Signalling, portrait: Portrait, text: str, language: str
    ) -> Call:
        call = self._under_way[call_id] = Call(
            call_id,
            signalling,
            portrait,
            self._pool.send,
            self._voices,
            self._bus,
            text=text,
            language=language,
            rtp_timeout_s=self._settings.rtp_timeout_s,
        )
        call.on_answered = lambda answered: self.on_answered(answered)
        call.on_begin = lambda begun: self.on_begin(begun)
        return call
