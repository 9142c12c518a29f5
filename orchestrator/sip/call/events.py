"""Events of a call: what its handler is told, in order, and why the call ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia
from orchestrator.sip.sdp.description import SessionDescription
from visavis.service.logs import Log

log = Log(__name__)
LAST_EVENT_SECONDS = 1.0
C = TypeVar("C", contravariant=True)


@dataclass(frozen=True, slots=True)
class EndCause:
    """Why a call ended.

    `kind`: hangup, cancelled, rejected, busy, no_answer, not_acceptable, no_ack, timeout, session_expired,
    too_long, unreachable or error. `status` is the SIP status that ended it (0 for a BYE); `by` is "peer" or "us".
    """

    kind: str
    by: str
    status: int = 0
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", PeerText(self.text))


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """A refused call: one answered 503 because of us, not of its source: `cause` is "no_room" or "draining"."""

    id: str
    sip_call_id: PeerText
    caller: PeerText
    user: PeerText
    source: str
    account: str
    cause: str
    text: str = ""


class CallEvents(Protocol[C]):
    """The events of one call `C`, in the order in which they happened; each a coroutine in a task of its own."""

    async def on_media(self, call: C, media: NegotiatedMedia) -> None:
        """The media were agreed without `answer` returning them: late offer, re-INVITE, UPDATE, dialled call."""

    async def on_early(self, call: C) -> None:
        """PRACK confirmed an answer that went before the final one: early media may be sent from now on."""

    async def on_established(self, call: C) -> None:
        """The dialog is confirmed: ACK arrived, or our call was answered and is acknowledged.

        No media may be sent before this or `on_early`: until then nobody has shown that he wants them.
        """

    async def on_reoffer(self, call: C, offer: SessionDescription | None) -> MediaCapabilities:
        """The peer offers anew (hold, resume, new address, video added), or asks for our offer (None): what can
        we do now? `on_media` or `on_reoffer_failed` follows, unless the call ends."""

    async def on_reoffer_failed(self, call: C) -> None:
        """Nothing came of the offer that `on_reoffer` was asked about: the call goes on as it was."""

    async def on_progress(self, call: C, status: int) -> None:
        """A call of ours rings (180) or progresses (183)."""

    async def on_keyframe_request(self, call: C) -> None:
        """INFO with picture_fast_update (RFC 5168)."""

    async def on_dtmf(self, call: C, digit: str, duration: int) -> None:
        """A key by INFO; milliseconds."""

    async def on_transfer(self, call: C, target: PeerText) -> bool:
        """REFER asks us to call `target`: whether we will."""

    async def on_redirect(self, call: C, target: PeerText) -> bool:
        """Whoever we call names `target`, a SIP URI, instead (302): whether it is called."""

    async def on_ended(self, call: C, cause: EndCause) -> None:
        """The last event of a call, exactly once."""


class EventQueue:
    """One call's events, run one after the other. `on_failure` is called where the handler raised."""

    def __init__(
        self,
        call_id: str,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_failure: Callable[[], None],
    ) -> None:
        self._call_id = call_id
        self._spawn = spawn
        self._on_failure = on_failure
        self._last: asyncio.Task[None] | None = None

    def put(self, event: Callable[[], Coroutine[Any, Any, None]], *, last: bool) -> None:
        """Run it after those before it; the `last` one waits only a moment: no handler that hangs may hide it."""
        previous = self._last

        async def run() -> None:
            if previous is not None:
                await asyncio.wait({previous}, timeout=LAST_EVENT_SECONDS if last else None)
            try:
                await event()
            except Exception:
                log.exception("handler_failed", call=self._call_id)
                self._on_failure()

        self._last = self._spawn(run())
