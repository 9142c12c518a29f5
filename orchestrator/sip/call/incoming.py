"""A call that came in, until it is answered: ring, answer, reject, and the peer's CANCEL."""

from __future__ import annotations

from orchestrator.sip.agent.refusals import unavailable, warning
from orchestrator.sip.agent.validate import ALLOW
from orchestrator.sip.call.call import Call
from orchestrator.sip.call.dialog import Dialog, new_tag
from orchestrator.sip.call.events import EndCause
from orchestrator.sip.call.in_dialog import CallEnded, UserAgent
from orchestrator.sip.message.bodies import sdp_body
from orchestrator.sip.message.grammar import GrammarError
from orchestrator.sip.message.message import Request, parse_request_uri
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia, NotAcceptable
from orchestrator.sip.sdp.description import SessionDescription, parse_sdp
from orchestrator.sip.transaction.server import ServerTransaction
from orchestrator.sip.transaction.timers import T1, Repeater


class IncomingCall(Call):
    """A call from a peer. `offer` is its session description, None where it leaves the offer to us."""

    def __init__(self, agent: UserAgent, call_id: str, transaction: ServerTransaction) -> None:
        request = transaction.request
        dialog = Dialog.from_invite(request, transaction.flow, new_tag())
        super().__init__(agent, call_id, dialog)
        self.request = request
        self.user = PeerText(parse_request_uri(request.uri).decoded_user)
        self.remote_uri = PeerText(str(dialog.remote.uri))
        self.remote_name = PeerText(dialog.remote.display)
        self.source = transaction.flow.remote
        self.local_host = agent.config.advertised_host or transaction.flow.local[0]
        self.offer: SessionDescription | None = None
        self._transaction = transaction
        self._rseq = 0
        self._reliable: Repeater | None = None
        self._answered_early = self._agreed_early = self._answer_waits = False
        self._ring_timer = agent.clock.call_later(agent.config.ring_timeout, self._no_answer)

    def drop(self) -> None:
        """Forget a call that was never announced."""
        self._ring_timer.cancel()
        self.state = "ended"

    def timer_refusal(self) -> tuple[tuple[str, str], ...] | None:
        """The Min-SE of a 422 where the session timer asked for is too short."""
        return self.timer.refuses(self.request)

    def read_offer(self) -> None:
        """Raises SdpError for a body that is not usable."""
        body = sdp_body(self.request)
        self.offer = parse_sdp(body) if body is not None else None

    @property
    def half_open(self) -> bool:
        return self.state in ("new", "ringing", "answered")

    def give_way(self, text: str, retry_after: int) -> None:
        """Leave the line to another call: 503 with Retry-After, or BYE where the 2xx is out already."""
        if self.state in ("new", "ringing"):
            self.turn_away(text, retry_after)
        elif self.half_open:
            self.fail(EndCause("no_ack", "us", 408, text))

    @property
    def negotiable(self) -> bool:
        return super().negotiable or (self.state == "ringing" and self._agreed_early)

    def ring(self, status: int = 180, capabilities: MediaCapabilities | None = None) -> None:
        """Send 180 (or another provisional status), reliably where the peer asks for that.

        With `capabilities` its offer is answered already (early media, in `media`), where it knows reliable
        responses; later offers then come as UPDATE. Raises CallEnded, NotAcceptable.
        """
        if self.state not in ("new", "ringing"):
            raise CallEnded("the call is not ringing any more")
        self.state = "ringing"
        early = capabilities is not None and self.offer is not None and self._knows_reliable("Supported")
        if not early and not self._knows_reliable("Require"):
            self.respond(self._transaction, status, headers=(("Allow", ALLOW),))
            return
        if self.offer is None or self._reliable is not None:
            return  # RFC 3262 section 5: a reliable 1xx would have to carry our offer; the 200 does
        self._rseq += 1
        headers = (("Require", "100rel"), ("RSeq", str(self._rseq)), ("Allow", ALLOW))
        text = ""
        if capabilities is not None:
            text = self.session.answer(self.offer, capabilities)
            self.capabilities, self._answered_early = capabilities, True
        data = bytes(self.respond(self._transaction, status, body=text, headers=headers))
        flow = self._transaction.flow
        self._reliable = Repeater(
            self._agent.clock,
            lambda: flow.send(data),
            lambda: self.reject(504),
            ceiling=64 * T1,
        )

    def answer(self, capabilities: MediaCapabilities) -> NegotiatedMedia | None:
        """Answer with what can be agreed; None for a late offer, whose outcome `on_media` brings.

        Where `ring` has answered the offer that stands, and the answer goes out once that was confirmed.
        Raises NotAcceptable (then reject, or let it out of `on_invite`: 488) and CallEnded.
        """
        if self.state not in ("new", "ringing"):
            raise CallEnded("the call cannot be answered any more")
        if self._answered_early:
            self._answer_waits = not self._agreed_early  # RFC 3262 section 3
            if not self._answer_waits:
                self._accept("")
            return self.session.media
        self.capabilities = capabilities
        if self.offer is None:
            text, media = self.session.offer(capabilities), None
        else:
            text = self.session.answer(self.offer, capabilities)
            media = self.session.media
        self._accept(text)
        return media

    def _accept(self, text: str) -> None:
        self.state = "answered"
        self.on_answered()
        self._settle()
        self.answer_transaction(self._transaction, text, is_reinvite=False)

    def reject(
        self, status: int = 603, reason: str | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Refuse with a final status of 300 or more; does nothing to a call that was cancelled meanwhile."""
        if self.state in ("new", "ringing"):
            kind = {486: "busy", 600: "busy", 488: "not_acceptable", 480: "no_answer"}.get(status, "rejected")
            self._refuse(EndCause(kind, "us", status, reason or ""), reason, headers)

    def turn_away(self, text: str, retry_after: int) -> None:
        """Refuse for want of room: 503 with Retry-After, and `text` in its reason phrase and a Warning."""
        refusal = unavailable(text, retry_after)
        self.reject(refusal.status, refusal.reason, refusal.headers)

    def hangup(self, reason: str = "") -> None:
        if self.state in ("new", "ringing"):
            self._refuse(EndCause("hangup", "us", 480, reason))
        else:
            super().hangup(reason)

    def on_cancel(self, request: Request) -> None:
        if self.state in ("new", "ringing"):
            self._refuse(EndCause("cancelled", "peer", 487, request.text("Reason")))

    def on_bye(self, request: Request) -> None:
        if self.state in ("new", "ringing"):
            self._refuse(EndCause("cancelled", "peer", 487))
        else:
            super().on_bye(request)

    def on_prack(self, transaction: ServerTransaction) -> None:
        parts = (transaction.request.headers.get("RAck") or "").split()
        expected = [str(self._rseq), str(self.request.cseq[0]), "INVITE"]
        if self._reliable is None or self._reliable.done or parts != expected:
            self.respond(transaction, 481)
            return
        self._reliable.acknowledged()
        self._agreed_early = self._answered_early
        if self._agreed_early:
            self.emit(self.handler.on_early, self)
        self._renegotiation.on_prack(transaction)
        if self._answer_waits:
            self._accept("")

    def failed(self, error: BaseException) -> None:
        """The handler's `on_invite` raised."""
        if self.state in ("new", "ringing"):
            if isinstance(error, NotAcceptable):
                self.reject(488, headers=(warning(str(error)),))
            else:
                self._refuse(EndCause("error", "us", 500, "our handler failed"))
        elif self.state != "ended":
            super().hangup("our handler failed")

    def _knows_reliable(self, header: str) -> bool:
        """Whether the caller names 100rel, in Require or at least in Supported."""
        names = {"Require", header}
        try:
            return any("100rel" in self.request.headers.tokens(name) for name in names)
        except GrammarError:
            return False

    def _no_answer(self) -> None:
        self.reject(480)

    def _settle(self) -> None:
        self._ring_timer.cancel()
        if self._reliable is not None:
            self._reliable.acknowledged()

    def _refuse(
        self, cause: EndCause, reason: str | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._settle()
        self.respond(self._transaction, cause.status, reason, headers=headers)
        self.end(cause)
