"""What a call tells its handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia
from orchestrator.sip.sdp.description import SessionDescription

if TYPE_CHECKING:
    from orchestrator.sip.call.call import Call
    from orchestrator.sip.call.incoming import IncomingCall


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
    """A call answered 503 because of us, not of its source: `cause` is "no_room" or "draining"."""

    id: str
    sip_call_id: PeerText
    caller: PeerText
    user: PeerText
    source: str
    account: str
    cause: str
    text: str = ""


class SipHandler(Protocol):
    """Call control. Every method is a coroutine of its own task; what one raises ends only its call.

    Events of one call are delivered in order, except that `on_invite` runs beside the others.
    """

    async def on_invite(self, call: IncomingCall) -> None:
        """A new call. Ring, answer or reject it, now or later. Raising NotAcceptable refuses it with 488,
        anything else with 500. `on_ended` follows in every case."""

    async def on_refused(self, call: RefusedCall) -> None:
        """A call was refused before `on_invite`, for want of room."""

    async def on_media(self, call: Call, media: NegotiatedMedia) -> None:
        """The media were agreed without `answer` returning them: late offer, re-INVITE, UPDATE, dialled call."""

    async def on_early(self, call: Call) -> None:
        """PRACK confirmed an answer that went before the final one: early media may be sent from now on."""

    async def on_established(self, call: Call) -> None:
        """The dialog is confirmed: ACK arrived, or our call was answered and is acknowledged.

        No media may be sent before this or `on_early`: until then nobody has shown that he wants them.
        """

    async def on_reoffer(self, call: Call, offer: SessionDescription) -> MediaCapabilities:
        """The peer offers anew (hold, resume, new address, video added): what can we do now?"""

    async def on_progress(self, call: Call, status: int) -> None:
        """A call of ours rings (180) or progresses (183)."""

    async def on_keyframe_request(self, call: Call) -> None:
        """INFO with picture_fast_update (RFC 5168)."""

    async def on_dtmf(self, call: Call, digit: str, duration: int) -> None:
        """A key by INFO; milliseconds."""

    async def on_transfer(self, call: Call, target: PeerText) -> bool:
        """REFER asks us to call `target`: whether we will."""

    async def on_ended(self, call: Call, cause: EndCause) -> None:
        """The last event of a call, exactly once."""


class BaseHandler:
    """A SipHandler that answers nothing: override what is needed."""

    async def on_invite(self, call: IncomingCall) -> None:
        call.reject(480)

    async def on_refused(self, call: RefusedCall) -> None:
        pass

    async def on_media(self, call: Call, media: NegotiatedMedia) -> None:
        pass

    async def on_early(self, call: Call) -> None:
        pass

    async def on_established(self, call: Call) -> None:
        pass

    async def on_reoffer(self, call: Call, offer: SessionDescription) -> MediaCapabilities:
        return call.capabilities

    async def on_progress(self, call: Call, status: int) -> None:
        pass

    async def on_keyframe_request(self, call: Call) -> None:
        pass

    async def on_dtmf(self, call: Call, digit: str, duration: int) -> None:
        pass

    async def on_transfer(self, call: Call, target: PeerText) -> bool:
        return False

    async def on_ended(self, call: Call, cause: EndCause) -> None:
        pass
