"""Offers within a call: the peer's re-INVITE, UPDATE and PRACK, and re-INVITEs of ours with glare (491) handled.

RFC 3261 section 14, RFC 3311 and RFC 3262 section 5.
"""

from __future__ import annotations

import secrets

from orchestrator.sip.agent.client import Client
from orchestrator.sip.agent.refusals import warning
from orchestrator.sip.call.events import EndCause
from orchestrator.sip.call.in_dialog import InDialog
from orchestrator.sip.call.session_timer import HeaderLines
from orchestrator.sip.message.bodies import sdp_body
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia, NotAcceptable
from orchestrator.sip.sdp.description import SdpError, parse_sdp
from orchestrator.sip.transaction.server import ServerTransaction
from orchestrator.sip.transaction.timers import pause
from visavis.service.logs import Log

log = Log(__name__)
RETRY = (("Retry-After", "2"),)


class Renegotiation:
    """The peer's new offers within a call and our answers, one at a time."""

    def __init__(self, call: InDialog) -> None:
        self._call = call
        self._open: ServerTransaction | None = None

    def on_reinvite(self, transaction: ServerTransaction) -> None:
        call = self._call
        if call.offering:
            call.respond(transaction, 491)
        elif call.state not in ("answered", "established") or call.awaits_ack or self.is_open:
            call.respond(transaction, 500, headers=RETRY)
        else:
            self._begin(transaction)

    def on_update(self, transaction: ServerTransaction) -> None:
        call = self._call
        if sdp_body(transaction.request) is None:
            if refusal := call.timer.refuses(transaction.request):
                call.respond(transaction, 422, headers=refusal)
                return
            call.dialog.refresh_target(transaction.request)
            call.respond(transaction, 200, headers=self._timer_headers(transaction.request))
        elif call.offer_open:
            call.respond(transaction, 491)
        elif not call.negotiable or self.is_open:
            call.respond(transaction, 500, headers=RETRY)
        else:
            self._begin(transaction)

    def on_prack(self, transaction: ServerTransaction) -> None:
        """A PRACK that confirms a reliable answer of ours may carry the next offer (RFC 3262 section 5)."""
        if sdp_body(transaction.request) is None or not self._call.negotiable:
            self._call.respond(transaction, 200)
        else:
            self._begin(transaction)

    def abandon(self) -> None:
        """The call has ended: an offer that is still open is refused."""
        if self._open is not None and self.is_open:
            self._call.respond(self._open, 487)

    @property
    def is_open(self) -> bool:
        """Whether an offer of the peer's is not answered yet."""
        return self._open is not None and not self._open.final_sent

    def _timer_headers(self, request: Request) -> HeaderLines:
        """The session timer starts with the call's first 2xx, and PRACK does not refresh it."""
        established = self._call.state in ("answered", "established")
        return self._call.timer.answer(request) if established and request.method == "UPDATE" else ()

    def _begin(self, transaction: ServerTransaction) -> None:
        self._open = transaction
        self._call.emit(self._answer, transaction)

    async def _answer(self, transaction: ServerTransaction) -> None:
        call, request = self._call, transaction.request
        if transaction.final_sent or call.state == "ended":
            return
        if refusal := call.timer.refuses(request):
            call.respond(transaction, 422, headers=refusal)
            return
        text = await self._settle(transaction)
        if text is None:
            await call.handler.on_reoffer_failed(call)
            return
        if request.method != "PRACK":
            call.dialog.refresh_target(request)
        if request.method == "INVITE":
            call.answer_transaction(transaction, text, is_reinvite=True)
        else:
            call.respond(transaction, 200, body=text, headers=self._timer_headers(request))
        call.renegotiated()
        if sdp_body(request) is not None and call.session.media is not None:
            await call.handler.on_media(call, call.session.media)

    async def _settle(self, transaction: ServerTransaction) -> str | None:
        """Our answer, or our offer where there is none in the request; None where it was refused."""
        call, body = self._call, sdp_body(transaction.request)
        try:
            offer = None if body is None else parse_sdp(body)
            capabilities = await call.handler.on_reoffer(call, offer)
            if transaction.final_sent:
                return None
            text = (
                call.session.offer(capabilities)
                if offer is None
                else call.session.answer(offer, capabilities)
            )
            call.capabilities = capabilities
            return text
        except NotAcceptable as error:
            call.respond(transaction, 488, headers=(warning(str(error)),))
        except SdpError as error:
            call.respond(transaction, 400, "Bad SDP", headers=(warning(str(error)),))
        except Exception:
            log.exception("reoffer_failed", call=call.id)
            call.respond(transaction, 500)
        return None


class Reinvites:
    """One call's own re-INVITEs, offers and refreshes; `offering` while one is open."""

    def __init__(self, client: Client, call: InDialog) -> None:
        self.offering = False
        self._client = client
        self._call = call

    async def reoffer(self, capabilities: MediaCapabilities) -> NegotiatedMedia:
        """Offer anew. Raises NotAcceptable where the peer refuses or the call is not in a state to ask."""
        call = self._call
        if call.state != "established" or self.offering or call.offered:
            raise NotAcceptable("the call cannot take a new offer now")
        text = call.session.offer(capabilities)
        response = await self._transact(text)
        body = sdp_body(response) if response.status < 300 else None
        if body is None:
            call.session.withdraw(text)
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
                if call.session.local_text != body:  # their offer came in between and was answered
                    return response
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
