"""A call of ours until it is answered: proxies, redirects, challenges, forks, CANCEL (sections 8.1, 13.2)."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from orchestrator.sip.agent.authentication import Credentials
from orchestrator.sip.agent.client import VIA_ROOM, renew
from orchestrator.sip.call.call import Call
from orchestrator.sip.call.dialog import Dialog, new_tag
from orchestrator.sip.call.early import EarlyDialog
from orchestrator.sip.call.events import EndCause
from orchestrator.sip.call.in_dialog import UserAgent
from orchestrator.sip.call.invite import Attempt, ExtraForks
from orchestrator.sip.message.bodies import sdp_body
from orchestrator.sip.message.grammar import GrammarError, NameAddr, Uri, parse_name_addr
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NotAcceptable
from orchestrator.sip.sdp.description import SdpError
from orchestrator.sip.transaction.server import ServerTransaction
from orchestrator.sip.transport.flow import bracketed
from orchestrator.sip.transport.locate import Hop
from visavis.service.logs import Log

log = Log(__name__)
MAX_TARGETS = 8

_KINDS = {
    486: "busy", 600: "busy", 480: "no_answer", 408: "no_answer", 488: "not_acceptable",
    606: "not_acceptable", 415: "not_acceptable", 503: "unreachable",
}  # fmt: skip


class Way(Protocol):
    """How calls go out: over which proxies, and to which servers."""

    def proxies(self, target: Uri) -> Sequence[Uri | None]:
        """The proxies to try in turn; None is the target's own server."""

    async def hops(self, uri: Uri) -> list[Hop]:
        """The servers of a proxy or target. Raises OSError where there is none."""


class OutgoingCall(Call):
    """A dialled call. It ends in `on_established` or `on_ended`; `hangup` before that cancels it."""

    direction = "out"

    def __init__(
        self,
        agent: UserAgent,
        call_id: str,
        target: Uri,
        capabilities: MediaCapabilities,
        *,
        local: NameAddr,
        credentials: Credentials | None = None,
        way: Way | None = None,
        timeout: float = 60.0,
        account: str = "",
    ) -> None:
        super().__init__(agent, call_id, None)
        self.account = account
        self.user = PeerText(target.decoded_user)
        self.remote_uri = PeerText(str(target))
        self.capabilities = capabilities
        self.credentials = credentials
        self._address_given = bool(capabilities.address)
        self._local = local
        self._tag = new_tag()
        self._sip_call_id = secrets.token_hex(12)
        self._seq = secrets.randbelow(2**16) + 1
        self._targets = [target]
        self._way = way or agent.client
        self._timeout = timeout
        self._attempt: Attempt | None = None
        self._provisional = False
        self._cancelled: EndCause | None = None
        self._forks = ExtraForks(agent.client, self)
        self._early = EarlyDialog(agent.client, self._next_seq)

    @property
    def sip_call_id(self) -> str:
        return self._sip_call_id

    @property
    def offer_open(self) -> bool:
        return super().offer_open and not self._early.agreed

    @property
    def negotiable(self) -> bool:
        return super().negotiable or (self.state == "ringing" and self._early.agreed)

    def renegotiated(self) -> None:
        self._early.updated = True

    def on_request(self, transaction: ServerTransaction) -> None:
        if self.state in ("new", "ringing") and not self._early.takes(transaction):
            self.respond(transaction, 481)
        else:
            super().on_request(transaction)

    async def run(self) -> None:
        """Dial until somebody answers or nobody is left to ask."""
        ringing = self._agent.clock.call_later(
            self._timeout, lambda: self._cancel(EndCause("no_answer", "us", 408, "nobody answered in time"))
        )
        try:
            response = await self._dial()
        finally:
            ringing.cancel()
        if self.state == "ended":
            return
        if response.status >= 300:
            kind = _KINDS.get(response.status, "rejected")
            self.end(self._cancelled or EndCause(kind, "peer", response.status, response.reason))

    def hangup(self, reason: str = "") -> None:
        if self.state in ("new", "ringing"):
            self._cancel(EndCause("cancelled", "us", 487, reason))
        else:
            super().hangup(reason)

    async def _dial(self) -> Response:
        response = Response(status=480, reason="nobody to ask")
        tried: set[str] = set()
        while self._targets and len(tried) < MAX_TARGETS and self._cancelled is None:
            target = self._targets.pop(0)
            if str(target) in tried:
                continue
            tried.add(str(target))
            proxies = self._way.proxies(target)
            for proxy in proxies:
                response = await self._ask_each(target, proxy, more=proxy is not proxies[-1])
                if not self._unanswered(response):
                    break
            if 300 <= response.status < 400:
                await self._redirect(response)
            elif response.status < 300 or response.status >= 600:
                break
        return response

    async def _redirect(self, response: Response) -> None:
        try:
            contacts = [parse_name_addr(value) for value in response.headers.values("Contact")]
        except GrammarError:
            return
        contacts.sort(key=lambda contact: contact.params.get("q") or "1", reverse=True)
        for uri in [contact.uri.without_headers() for contact in contacts if contact.uri.is_sip][
            :MAX_TARGETS
        ]:
            if await self._agent.handler.on_redirect(self, PeerText(str(uri))):
                self._targets.append(uri)

    def _unanswered(self, response: Response) -> bool:
        """Whether another server should be asked (RFC 3263 section 4.3)."""
        return response.status in (503, 408) and not self._provisional and not self._cancelled

    async def _ask_each(self, target: Uri, proxy: Uri | None, *, more: bool) -> Response:
        """One target over one proxy, whose servers are asked in turn until one answers.

        `more` says that there are other proxies. Only the last of all servers is waited for in full.
        """
        client = self._agent.client
        try:
            hops = await self._way.hops(proxy or target)
        except OSError as error:
            return Response(status=503, reason=str(error))
        response = Response(status=503, reason="no server")
        for hop in hops:
            try:
                request = self._request(target, proxy, client.local_host(hop))
                response = await self._ask(request, hop, impatient=more or hop is not hops[-1])
            except (OSError, TimeoutError) as error:
                log.info("no_way", call=self.id, hop=hop, reason=str(error) or "no connection in time")
                # whoever dials learns of a certificate, but not which ports are open
                untrusted = isinstance(error, ssl.SSLCertVerificationError)
                response = Response(status=503, reason=str(error) if untrusted else "no connection")
                continue
            if not self._unanswered(response):
                break
            client.avoid(hop)
        return response

    async def _ask(self, request: Request, hop: Hop, *, impatient: bool) -> Response:
        """One server, challenges answered. Raises OSError or TimeoutError where there is no way to it."""
        client = self._agent.client
        for _ in range(3):
            flow = await client.open(hop, size=len(bytes(request)) + VIA_ROOM)
            if self._cancelled:
                return Response(status=487, reason="cancelled")
            self.source = flow.remote
            self.local_host = self._agent.config.advertised_host or flow.local[0]
            self._provisional = False
            self._attempt = Attempt(client, request, flow, self._on_further_answer, impatient=impatient)
            response = await self._follow(self._attempt)
            again = client.authorize(self.credentials, request, response, flow.remote[0])
            if not again and not self.timer.raise_to(request, response):
                return response
            renew(request, self._next_seq())
        return response

    def _request(self, target: Uri, proxy: Uri | None, local_host: str) -> Request:
        """An INVITE as it goes out from `local_host`, which stands where no address of ours was given."""
        seq = self._next_seq()
        local = (
            self._local.uri if self._local.uri.host else replace(self._local.uri, host=bracketed(local_host))
        )
        if not self._address_given:
            self.capabilities = replace(self.capabilities, address=local_host)
        request = Request(method="INVITE", uri=str(target))
        if proxy is not None:
            route = proxy if "lr" in proxy.params else Uri(proxy.scheme, proxy.user, proxy.host, proxy.port,
                                                           {**proxy.params, "lr": None})  # fmt: skip
            request.headers.add("Route", f"<{route}>")
        request.headers.add("Max-Forwards", "70")
        request.headers.add("From", str(NameAddr(local, self._local.display, {"tag": self._tag})))
        request.headers.add("To", f"<{target}>")
        request.headers.add("Call-ID", self._sip_call_id)
        request.headers.add("CSeq", f"{seq} INVITE")
        self.session.withdraw()
        self.prepare(request, self.session.offer(self.capabilities))
        return request

    async def _follow(self, attempt: Attempt) -> Response:
        """Responses until the first final one."""
        while True:
            response = await attempt.next()
            if response.status >= 200:
                break
            self._on_provisional(attempt, response)
        if response.status < 300:
            self._on_answer(attempt, response)
        elif self._early.dialog is not None:
            self._early.forget()
            self._agent.forget_dialogs(self)
        return response

    def _on_provisional(self, attempt: Attempt, response: Response) -> None:
        if not self._provisional:
            self._provisional = True
            if self._cancelled is not None:
                attempt.cancel()
        if response.status == 100 or self._cancelled:
            return
        if self.state == "new":
            self.state = "ringing"
        body, answered = sdp_body(response), False
        if body is not None and self.session.offer_pending and not self._early.updated:
            try:
                media = self.session.accept(body, provisional=True)
                answered = True
                self.emit(self._agent.handler.on_media, self, media)
            except (NotAcceptable, SdpError) as error:
                log.info("early_media_unusable", call=self.id, reason=error)
        if dialog := self._early.follow(attempt, response, answered=answered):
            self._agent.forget_dialogs(self)
            self._dialog = dialog
            self._agent.register(self, dialog)
        self.emit(self._agent.handler.on_progress, self, response.status)

    def _on_answer(self, attempt: Attempt, response: Response) -> None:
        dialog = Dialog.from_response(attempt.request, response, attempt.flow)
        dialog.local_seq = max(dialog.local_seq, self._seq)
        dialog.pinned = dialog.flow.reliable and not dialog.route_set
        updated = self._early.confirmed_by(dialog) and self._early.updated
        self._dialog = dialog
        self.state = "established"
        self.on_answered()
        self._agent.forget_dialogs(self)
        self._agent.register(self, dialog)
        self.acks.acknowledge(attempt.request)
        if self._cancelled is not None:
            self._bye(self._cancelled)
            return
        body = (
            None if updated else sdp_body(response)
        )  # what it repeats is no answer to the callee's own offer
        if body is not None and self.session.offer_pending:
            try:
                media = self.session.accept(body)
            except (NotAcceptable, SdpError) as error:
                self._bye(EndCause("not_acceptable", "us", 488, str(error)))
                return
            self.emit(self._agent.handler.on_media, self, media)
        elif self.session.media is None:
            self._bye(EndCause("not_acceptable", "us", 488, "the answer carries no session description"))
            return
        self.session.withdraw()
        self.on_refreshed(response)
        self.emit(self._agent.handler.on_established, self)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _on_further_answer(self, attempt: Attempt, response: Response) -> None:
        """A repeated 2xx is acknowledged again, another fork's or server's is acknowledged and hung up."""
        if self._dialog is not None and (response.to.tag or "") == self._dialog.remote_tag:
            self.on_repeated_answer(response)
        else:
            self._forks.refuse(attempt.request, response, attempt.flow)

    def _cancel(self, cause: EndCause) -> None:
        if self.state not in ("new", "ringing") or self._cancelled is not None:
            return
        self._cancelled = cause
        if self._provisional and self._attempt is not None:
            self._attempt.cancel()
