"""A SIP call in either direction: what the peer asks within it and what we ask of the peer."""

from __future__ import annotations

from orchestrator.sip.agent.validate import ALLOW
from orchestrator.sip.call.dialog import Dialog
from orchestrator.sip.call.events import EndCause
from orchestrator.sip.call.in_dialog import InDialog, UserAgent
from orchestrator.sip.call.info import Info
from orchestrator.sip.call.reoffer import Reinvites, Renegotiation
from orchestrator.sip.call.transfer import Transfer
from orchestrator.sip.message.bodies import sdp_body
from orchestrator.sip.message.message import Request
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia, NotAcceptable
from orchestrator.sip.sdp.description import SdpError
from orchestrator.sip.transaction.server import ServerTransaction
from orchestrator.sip.transport.trace import Trace
from visavis.service.logs import Log

log = Log(__name__)


class Call(InDialog):
    """A call in either direction. `id` names it in logs; `state` is new, ringing, answered, established, ended.

    `account` is the uri of the account it came or goes over, empty where that is none of ours.
    `capabilities` is what the last offer or answer was made from. `user` is the dialled user part, unescaped; it,
    `remote_uri` and `remote_name` are the peer's words.
    """

    def __init__(self, agent: UserAgent, call_id: str, dialog: Dialog | None) -> None:
        super().__init__(agent, call_id, dialog)
        self.user = PeerText()
        self.remote_uri = PeerText()
        self.remote_name = PeerText()
        self.local_host = ""
        self.trace: Trace | None = None
        self.began_at = agent.clock.now()
        self._renegotiation = Renegotiation(self)
        self._reinvites = Reinvites(agent.client, self)
        self._transfer = Transfer(agent.client, self)
        self._info = Info(agent.client, self)

    @property
    def offered(self) -> bool:
        return self._renegotiation.is_open or super().offered

    @property
    def offering(self) -> bool:
        """Whether a re-INVITE of ours is open."""
        return self._reinvites.offering

    def give_way(self, text: str, retry_after: int) -> None:
        """Leave the line to another call; does nothing to one that is not half-open."""

    @property
    def half_open(self) -> bool:
        """Whether it came in and its caller has not acknowledged our answer yet."""
        return False

    def start_trace(self) -> Trace:
        """Record this call's SIP messages from now on (`SipStack.trace_calls` does so from the INVITE)."""
        self.trace = self._agent.tracer.follow(self.sip_call_id)
        return self.trace

    async def reoffer(self, capabilities: MediaCapabilities) -> NegotiatedMedia:
        """Send a re-INVITE with a new offer (hold, video on or off) and return what was agreed.

        Raises CallEnded, NotAcceptable (the peer refused; the old agreement stands).
        """
        return await self._reinvites.reoffer(capabilities)

    async def transfer(self, target: str) -> int:
        """Ask the peer to call `target` instead (REFER); the status it reports back. Hang up after a 2xx.

        Raises NotAcceptable where the peer refuses.
        """
        return await self._transfer.transfer(target)

    async def press(self, digits: str, milliseconds: int = 100) -> None:
        """Send keys by INFO, for a peer that agreed to no telephone-event. Raises NotAcceptable."""
        await self._info.press(digits, milliseconds)

    # -- what the agent calls --

    def on_request(self, transaction: ServerTransaction) -> None:
        """A request within the dialog, its CSeq already checked."""
        request = transaction.request
        method = request.method
        if method == "BYE":
            self.respond(transaction, 200)
            self.on_bye(request)
        elif method == "INVITE":
            self._renegotiation.on_reinvite(transaction)
        elif method == "UPDATE":
            self._renegotiation.on_update(transaction)
        elif method == "INFO":
            self._info.on_info(transaction)
        elif method == "PRACK":
            self.on_prack(transaction)
        elif method == "REFER":
            self._transfer.on_refer(transaction)
        elif method == "NOTIFY":
            self._transfer.on_notify(transaction)
        else:
            self.respond(transaction, 200 if method == "OPTIONS" else 405, headers=(("Allow", ALLOW),))

    def on_ack(self, request: Request) -> None:
        """The ACK of a 2xx, first or repeated."""
        pending, self._pending_ack = self._pending_ack, None
        if pending is None or pending.done:
            return
        pending.acknowledged()
        if self.state == "answered":
            self.state = "established"
        if self.session.offer_pending:
            body = sdp_body(request)
            try:
                if body is None:
                    raise NotAcceptable("the ACK carries no answer to our offer")
                media = self.session.accept(body)
            except (NotAcceptable, SdpError) as error:
                if not pending.is_reinvite:
                    self._bye(EndCause("not_acceptable", "us", 488, str(error)))
                    return
                self.session.withdraw()
                log.info("answer_unusable", call=self.id, reason=error)
                self.emit(self.handler.on_reoffer_failed, self)
            else:
                self.emit(self.handler.on_media, self, media)
        if not pending.is_reinvite:
            self.emit(self.handler.on_established, self)
        if self._hangup_wanted:
            self._bye(EndCause("hangup", "us", text=self._hangup_wanted))

    def on_bye(self, request: Request) -> None:
        self.end(EndCause("hangup", "peer", text=request.text("Reason")))

    def on_prack(self, transaction: ServerTransaction) -> None:
        self.respond(transaction, 481)

    def refresh(self) -> None:
        self._agent.spawn(self._reinvites.refresh())

    def abandon(self) -> None:
        self._renegotiation.abandon()
        self._transfer.abandon()
