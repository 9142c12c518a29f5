"""A call's dialog until its end: responses, a 2xx until its ACK, the session timer, events in their order."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, Protocol

from orchestrator.sip.agent.authentication import Credentials
from orchestrator.sip.agent.client import Client
from orchestrator.sip.agent.validate import ALLOW, SUPPORTED
from orchestrator.sip.call.dialog import Dialog
from orchestrator.sip.call.events import CallEvents, EndCause, EventQueue
from orchestrator.sip.call.invite import Acks
from orchestrator.sip.call.session_timer import SessionTimer
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia
from orchestrator.sip.sdp.session import SdpSession
from orchestrator.sip.sdp.targets import check_targets
from orchestrator.sip.transaction.server import ServerTransaction
from orchestrator.sip.transaction.timers import Clock, PendingAck, Timer
from orchestrator.sip.transport.flow import Flow
from orchestrator.sip.transport.trace import Tracer
from visavis.service.logs import Log

log = Log(__name__)
P = ParamSpec("P")


class CallEnded(Exception):
    """The call is over: nothing more can be done with it."""


class UserAgent(Protocol):
    """What calls need of the user agent that holds them; they are :class:`orchestrator.sip.call.call.Call`."""

    config: SipConfig
    clock: Clock
    client: Client
    tracer: Tracer

    @property
    def handler(self) -> CallEvents[Any]: ...

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...
    def register(self, call: Any, dialog: Dialog) -> None: ...
    def account_hosts(self, account: str) -> Iterable[str]: ...
    def forget(self, call: Any) -> None: ...
    def forget_dialogs(self, call: Any) -> None: ...
    def finish_response(self, response: Response, transaction: ServerTransaction) -> None: ...


class InDialog:
    """What `call.Call` is made of, and all that the requests inside its dialog (INFO, REFER, offers) need of it."""

    direction = "in"

    def __init__(self, agent: UserAgent, call_id: str, dialog: Dialog | None) -> None:
        self.id = call_id
        self.state = "new"
        self.account = ""
        self.source: tuple[str, int] = ("", 0)
        self.capabilities = MediaCapabilities("0.0.0.0")
        self.session = SdpSession(check=lambda media: check_targets(media, self.signalling_hosts[0]))
        self.cause: EndCause | None = None
        self.credentials: Credentials | None = None
        self.answered_at: float | None = None
        self.timer = SessionTimer(agent.clock, agent.config, self.refresh, self._expired)
        self.acks = Acks(agent.client, self)
        self._agent = agent
        self._dialog = dialog
        self._limit: Timer | None = None
        self._pending_ack: PendingAck | None = None
        self._hangup_wanted = ""
        self._events = EventQueue(call_id, agent.spawn, self._handler_failed)

    @property
    def media(self) -> NegotiatedMedia | None:
        """What is agreed at the moment."""
        return self.session.media

    @property
    def dialog(self) -> Dialog:
        if self._dialog is None:
            raise CallEnded("the call has no dialog yet")
        return self._dialog

    @property
    def signalling_hosts(self) -> tuple[str, ...]:
        """IP addresses: where the peer last spoke from, then the servers of the account that the call goes over."""
        last = self._dialog.flow.remote if self._dialog is not None else self.source
        return tuple(dict.fromkeys((last[0], *self._agent.account_hosts(self.account))))

    @property
    def sip_call_id(self) -> str:
        """The Call-ID header of every message of this call, as it stands there."""
        return self.dialog.call_id

    @property
    def handler(self) -> CallEvents[Any]:
        return self._agent.handler

    @property
    def offering(self) -> bool:
        """Whether a re-INVITE of ours is open."""
        return False

    @property
    def offered(self) -> bool:
        """Whether a new offer of the peer's is being answered, so that ours has to wait."""
        return self.awaits_ack

    @property
    def offer_open(self) -> bool:
        """Whether an offer of ours waits for its answer, so that the peer's own has to wait (491)."""
        return self.offering or self.session.offer_pending

    @property
    def negotiable(self) -> bool:
        """Whether the first offer is settled, so that the peer may make another."""
        return self.state in ("answered", "established")

    @property
    def awaits_ack(self) -> bool:
        """Whether a 2xx of ours has not been acknowledged yet."""
        return self._pending_ack is not None and not self._pending_ack.done

    def renegotiated(self) -> None:
        """An offer of the peer's was answered."""

    def refresh(self) -> None:
        """A refresh of the session is due."""

    def abandon(self) -> None:
        """The call is ending: what is open within it is given up."""

    def hangup(self, reason: str = "") -> None:
        """End the call, whatever state it is in; does nothing to one that has ended."""
        if self.state == "ended":
            return
        if self.awaits_ack:
            self._hangup_wanted = reason or "hangup"  # section 15: no BYE before the ACK or its timeout
            return
        self._bye(EndCause("hangup", "us", text=reason))

    def shut_down(self) -> None:
        """End at once, without waiting for an ACK."""
        if self.state == "answered":
            self._bye(EndCause("hangup", "us", text="shutting down"))
        else:
            self.hangup("shutting down")

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str | None = None,
        *,
        body: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Response:
        response = self.dialog.response(transaction.request, status, reason)
        for name, value in headers:
            response.headers.add(name, value)
        self._agent.finish_response(response, transaction)
        if body:
            response.headers.set("Content-Type", "application/sdp")
            response.body = body.encode()
        transaction.respond(response)
        return response

    def answer_transaction(self, transaction: ServerTransaction, body: str, *, is_reinvite: bool) -> None:
        """Send 2xx to an INVITE and repeat it until it is acknowledged."""
        headers = self.timer.answer(transaction.request)
        response = self.respond(transaction, 200, body=body, headers=(("Allow", ALLOW), *headers))
        data = bytes(response)
        flow = transaction.flow

        def timeout() -> None:
            self._bye(EndCause("no_ack", "us", 408, "no ACK for our 2xx"))

        self._pending_ack = PendingAck(
            self._agent.clock, lambda: flow.send(data), timeout, is_reinvite=is_reinvite
        )

    def on_answered(self) -> None:
        """The 2xx went out, or came: from now on the call may last so long."""
        self.answered_at = self._agent.clock.now()
        seconds = self._agent.config.max_call_seconds
        if seconds:
            self._limit = self._agent.clock.call_later(seconds, self._too_long)

    def emit(self, event: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a coroutine of the handler after those of this call before it."""
        self._events.put(functools.partial(event, *args, **kwargs), last=self.state == "ended")

    def _handler_failed(self) -> None:
        if self.state in ("answered", "established"):
            self._bye(EndCause("error", "us", 500, "our handler failed"))
        else:
            self.hangup("our handler failed")

    def end(self, cause: EndCause) -> None:
        if self.state == "ended":
            return
        self.state = "ended"
        self.cause = cause
        self.timer.stop()
        if self._limit is not None:
            self._limit.cancel()
        if self._pending_ack is not None:
            self._pending_ack.acknowledged()
            self._pending_ack = None
        self.abandon()
        self._agent.forget(self)
        log.info("call_ended", call=self.id, kind=cause.kind, by=cause.by, status=cause.status)
        self.emit(self.handler.on_ended, self, cause)

    def _bye(self, cause: EndCause) -> None:
        if self.state == "ended":
            return
        request = self.dialog.request("BYE")
        if cause.status:
            request.headers.add(
                "Reason", f'SIP;cause={cause.status};text="{cause.text[:80]}"'.replace("\n", " ")
            )
        self._agent.client.send(self, request)
        self.end(cause)

    def on_flow(self, flow: Flow) -> None:
        """The peer spoke on this flow: answers and, for its connections, requests go back there."""
        if flow.transport == self.dialog.flow.transport:
            self.dialog.flow = flow

    def _expired(self) -> None:
        self._bye(EndCause("session_expired", "us", 408, "the session was not refreshed"))

    def _too_long(self) -> None:
        seconds = self._agent.config.max_call_seconds
        self._bye(EndCause("too_long", "us", 408, f"no call lasts longer than {seconds:g} s"))

    def on_repeated_answer(self, response: Response) -> None:
        """A 2xx of the peer's that was acknowledged came again."""
        self.acks.again(response)

    def on_refreshed(self, response: Response) -> None:
        self.timer.refreshed(response)

    def prepare(self, request: Request, body: str) -> None:
        """Complete an INVITE or UPDATE of ours."""
        request.headers.add("Allow", ALLOW)
        request.headers.add("Supported", ", ".join(SUPPORTED))
        self.timer.ask(request)
        if body:
            request.headers.add("Content-Type", "application/sdp")
            request.body = body.encode()

    def fail(self, cause: EndCause) -> None:
        """End with a BYE and that cause."""
        self._bye(cause)
