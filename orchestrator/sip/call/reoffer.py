"""Our own re-INVITEs and refreshes within a dialog, with glare (491) handled."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from orchestrator.sip.agent.client import Client
from orchestrator.sip.call.events import EndCause
from orchestrator.sip.message.bodies import sdp_body
from orchestrator.sip.message.message import Response
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia, NotAcceptable
from orchestrator.sip.sdp.description import SdpError
from orchestrator.sip.transaction.clock import pause

if TYPE_CHECKING:
    from orchestrator.sip.call.call import Call


class Reinvites:
    """One call's re-INVITEs; `offering` while one is open."""

    def __init__(self, client: Client, call: Call) -> None:
        self.offering = False
        self._client = client
        self._call = call

    async def reoffer(self, capabilities: MediaCapabilities) -> NegotiatedMedia:
        """Offer anew. Raises NotAcceptable where the peer refuses or the call is not in a state to ask."""
        call = self._call
        if call.state != "established" or self.offering:
            raise NotAcceptable("the call cannot take a new offer now")
        text = call.session.offer(capabilities)
        response = await self._transact(text)
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

    async def refresh(self) -> None:
        """A session refresh: the same description again; a peer that has lost the call ends it (section 10)."""
        call = self._call
        if call.state != "established":
            return
        response = await self._transact(call.session.local_text)
        if response.status in (408, 481, 503):
            call.fail(EndCause("session_expired", "us", response.status, "the refresh failed"))

    async def _transact(self, body: str) -> Response:
        call = self._call
        for attempt in range(4):
            if call.state != "established":
                break
            response = await self._once(body)
            if response.status != 491:
                return response
            own_call_id = call.direction == "out"
            low, high = (2.1, 4.0) if own_call_id else (0.0, 2.0)
            if attempt < 3:
                await pause(self._client.clock, low + (high - low) * secrets.randbelow(100) / 100)
        return Response(status=481, reason="the call has ended")

    async def _once(self, body: str) -> Response:
        call = self._call
        self.offering = True
        try:
            request = call.dialog.request("INVITE")
            call.prepare(request, body)
            response = await self._client.transact(call, request)
        finally:
            self.offering = False
        if response.status < 300:
            call.dialog.refresh_target(response)
            call.acks.acknowledge(request)
            call.on_refreshed(response)
        return response
