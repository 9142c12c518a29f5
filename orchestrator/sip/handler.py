"""Call control as the SIP stack needs it: who is told of every call and of what happens in it."""

from __future__ import annotations

from typing import Protocol

from orchestrator.sip.call.call import Call
from orchestrator.sip.call.events import CallEvents, EndCause, RefusedCall
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia
from orchestrator.sip.sdp.description import SessionDescription


class SipHandler(CallEvents[Call], Protocol):
    """Call control. Every method is a coroutine of its own task; what one raises ends only its call.

    Events of one call are delivered in order, except that `on_invite` runs beside the others.
    """

    async def on_invite(self, call: IncomingCall) -> None:
        """A new call. Ring, answer or reject it, now or later. Raising NotAcceptable refuses it with 488,
        anything else with 500. `on_ended` follows in every case."""

    async def on_refused(self, call: RefusedCall) -> None:
        """A call was refused before `on_invite`, for want of room."""


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

    async def on_reoffer(self, call: Call, offer: SessionDescription | None) -> MediaCapabilities:
        return call.capabilities

    async def on_reoffer_failed(self, call: Call) -> None:
        pass

    async def on_progress(self, call: Call, status: int) -> None:
        pass

    async def on_keyframe_request(self, call: Call) -> None:
        pass

    async def on_dtmf(self, call: Call, digit: str, duration: int) -> None:
        pass

    async def on_transfer(self, call: Call, target: PeerText) -> bool:
        return False

    async def on_redirect(self, call: Call, target: PeerText) -> bool:
        return False

    async def on_ended(self, call: Call, cause: EndCause) -> None:
        pass
