"""Our own re-INVITEs and refreshes within a dialog, with glare (491) handled."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .bodies import sdp_body
from .clock import pause
from .events import EndCause
from .media import MediaCapabilities, NegotiatedMedia, NotAcceptable
from .message import Response
from .sdp import SdpError

if TYPE_CHECKING:
    from .agent import Agent
    from .call import Call


class Reinviter:
    """Sends re-INVITEs for calls."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def reoffer(self, call: Call, capabilities: MediaCapabilities) -> NegotiatedMedia:
        """Offer anew. Raises NotAcceptable where the peer refuses or the call is not in a state to ask."""
        if call.state != "established" or call.offering:
            raise NotAcceptable("the call cannot take a new offer now")
        text = call.session.offer(capabilities)
        response = await self._transact(call, "INVITE", text)
        body = sdp_body(response) if response.status < 300 else None
        if body is None:
            call.session.withdraw()
            raise NotAcceptable(f"the peer answered {response.status} {response.reason}")
        try:
            media = call.session.accept(body)
        except SdpError as error:
            raise NotAcceptable(str(error)) from error
        call.capabilities = capabilities
        return media

    async def refresh(self, call: Call) -> None:
        """A session refresh: the same description again; a peer that has lost the call ends it (section 10)."""
        if call.state != "established":
            return
        response = await self._transact(call, "INVITE", call.session.local_text)
        if response.status in (408, 481, 503):
            call.fail(EndCause("session_expired", "us", response.status, "the refresh failed"))

    async def _transact(self, call: Call, method: str, body: str) -> Response:
        for attempt in range(4):
            if call.state != "established":
                break
            response = await self._once(call, method, body)
            if response.status != 491:
                return response
            own_call_id = call.direction == "out"
            low, high = (2.1, 4.0) if own_call_id else (0.0, 2.0)
            if attempt < 3:
                await pause(self._agent.clock, low + (high - low) * secrets.randbelow(100) / 100)
        return Response(status=481, reason="the call has ended")

    async def _once(self, call: Call, method: str, body: str) -> Response:
        call.offering = True
        try:
            request = call.dialog.request(method)
            call.prepare(request, body)
            response = await self._agent.client.transact(call, request)
        finally:
            call.offering = False
        if response.status < 300:
            call.dialog.refresh_target(response)
            call.acks.acknowledge(request)
            call.on_refreshed(response)
        return response
