"""The user agent: from transactions to calls (RFC 3261 sections 8.2, 9.2, 12.2). No sockets in here."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any

from orchestrator.sip.agent.admission import DRAINING, Admission
from orchestrator.sip.agent.client import Client, Connector
from orchestrator.sip.agent.policy import SourcePolicy
from orchestrator.sip.agent.refusals import Complaints, Refusal, unavailable, warning
from orchestrator.sip.agent.registration import Registration, account_of
from orchestrator.sip.agent.validate import CAPABILITIES, check_request
from orchestrator.sip.call.call import Call
from orchestrator.sip.call.dialog import Dialog, DialogId
from orchestrator.sip.call.events import EndCause, RefusedCall
from orchestrator.sip.call.in_dialog import CallEnded
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.call.outgoing import OutgoingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.handler import SipHandler
from orchestrator.sip.message.grammar import GrammarError
from orchestrator.sip.message.message import Request, Response, make_response, parse_request_uri
from orchestrator.sip.message.parsing import MAX_DATAGRAM, MAX_FRAME, MalformedMessage, parse_message
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import NotAcceptable
from orchestrator.sip.sdp.description import SdpError
from orchestrator.sip.transaction.layer import TransactionLayer
from orchestrator.sip.transaction.server import ServerTransaction
from orchestrator.sip.transaction.timers import Clock
from orchestrator.sip.transport.flow import Flow, reply_flow, stamp_via
from orchestrator.sip.transport.trace import Tracer
from visavis.service.logs import Log
from visavis.service.supervisor import Supervisor

log = Log(__name__)


class Agent:
    """The user agent of one stack, with all its calls and registrations."""

    def __init__(
        self,
        config: SipConfig,
        handler: SipHandler,
        clock: Clock,
        connector: Connector,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.config = config
        self._supervisor = supervisor or Supervisor()
        self.handler = handler
        self.clock = clock
        self.policy = SourcePolicy(
            clock.now,
            allow_from=config.allow_from,
            proxies=config.proxies,
            messages_per_second=config.messages_per_second,
            invites_per_second=config.invites_per_second,
        )
        self.transactions = TransactionLayer(clock, self)
        self.client = Client(config, clock, self.policy, self.transactions, connector, self.spawn)
        self.calls: dict[str, Call] = {}
        self.registrations: list[Registration] = []
        self.tracer = Tracer(config.trace_messages)
        self.admission = Admission(config, clock, self.policy)
        self._malformed = Complaints("sip_malformed", clock.now)
        self._refused = Complaints("sip_refused", clock.now)
        self._dialogs: dict[DialogId, Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what the transport calls --

    def receive(self, data: bytes, flow: Flow, *, stream: bool = False) -> None:
        """One message as it came. Nothing in it makes this raise."""
        source = flow.remote[0]
        if not self.policy.admits(source, len(data)):
            return
        began = time.thread_time()
        self._read(data, flow, stream=stream)
        self.policy.worked(source, time.thread_time() - began)

    def _read(self, data: bytes, flow: Flow, *, stream: bool) -> None:
        self.tracer.note("in", flow.remote, data)
        try:
            most = MAX_FRAME if flow.reliable else MAX_DATAGRAM
            message = parse_message(data, stream=stream, most=most)
            if isinstance(message, Request):
                stamp_via(message, flow)
                flow = reply_flow(message, flow)
            self.transactions.receive(message, flow)
        except MalformedMessage as error:
            self._refuse_malformed(error, flow)
        except (GrammarError, ValueError) as error:
            self._malformed.note(flow.remote[0], error)
        except Exception:
            log.exception("sip_message_failed", source=flow.remote[0])

    # -- TransactionUser --

    def on_request(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if request.method == "CANCEL":
            self._on_cancel(transaction)
            return
        refusal = check_request(request)
        if refusal is None and request.to.tag is not None:
            self._on_dialog_request(transaction)
            return
        if not self.policy.may_call(transaction.flow.remote[0]):
            transaction.terminate()  # we called there once; that gives no right to call here
            return
        if refusal is None and self.transactions.is_merged(transaction):
            refusal = Refusal(482)
        if refusal is not None:
            self._refuse(transaction, refusal)
        elif request.method == "INVITE":
            self._on_invite(transaction)
        elif request.method == "OPTIONS":
            answer = unavailable(DRAINING) if self.admission.draining else Refusal(200)
            self._refuse(transaction, replace(answer, headers=(*answer.headers, *CAPABILITIES)))
        else:
            status = {"REFER": 603, "NOTIFY": 489}.get(request.method, 481)
            self._refuse(transaction, Refusal(status))

    def on_ack(self, request: Request, flow: Flow) -> None:
        call = self._dialogs.get(_dialog_id(request))
        if call is not None:
            call.on_ack(request)

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        if response.cseq[1] == "INVITE" and 200 <= response.status < 300:
            call = self._dialogs.get((response.call_id, response.from_.tag or "", response.to.tag or ""))
            if call is not None:
                call.on_repeated_answer(response)

    # -- what calls use --

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something of a call; what it raises is logged and counted, and costs no other call anything."""
        task = self._supervisor.watch("sip", coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def register(self, call: Call, dialog: Dialog) -> None:
        self._dialogs[dialog.id] = call
        self.calls[call.id] = call

    def start_call(self, call: OutgoingCall) -> None:
        """Dial."""
        self.calls[call.id] = call
        call.trace = self.tracer.begin(call.sip_call_id)
        log.info("call_out", call=call.id, to=call.remote_uri)

        async def run() -> None:
            try:
                await call.run()
            except Exception as error:
                log.exception("dial_failed", call=call.id)
                call.end(EndCause("error", "us", 500, str(error)))

        self.spawn(run())

    def account_hosts(self, account: str) -> Iterable[str]:
        """The servers of an account, by address; none where it is none of ours."""
        own = [one.trunk.hosts for one in self.registrations if account and one.account.uri == account]
        return sorted(set().union(*own))

    def forget(self, call: Call) -> None:
        self.calls.pop(call.id, None)
        self.forget_dialogs(call)

    def forget_dialogs(self, call: Call) -> None:
        """No more requests reach the call."""
        for key in [key for key, owner in self._dialogs.items() if owner is call]:
            del self._dialogs[key]

    def finish_response(self, response: Response, transaction: ServerTransaction) -> None:
        """Contact where a dialog needs one, and our name."""
        if response.status != 100:
            response.headers.set("Server", self.config.user_agent)
        if transaction.request.method in ("INVITE", "UPDATE") and 100 < response.status < 300:
            response.headers.add("Contact", f"<{transaction.flow.contact_uri(self.config.contact_user)}>")
            if "Supported" not in response.headers:
                response.headers.add("Supported", dict(CAPABILITIES)["Supported"])

    def on_closed_flow(self, flow: Flow) -> None:
        for callback in list(flow.on_close):
            callback()

    async def close(self) -> None:
        """End every call, give them a moment to say so, stop every timer."""
        for call in list(self.calls.values()):
            call.shut_down()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)
        self.transactions.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- inside --

    def _refuse_malformed(self, error: MalformedMessage, flow: Flow) -> None:
        self._malformed.note(flow.remote[0], error)
        if error.request is None:
            return
        try:
            stamp_via(error.request, flow)
            reason = f"Bad Request ({error})" if error.status == 400 else None
            response = make_response(error.request, error.status, reason, to_tag=secrets.token_hex(8))
        except ValueError:
            return
        reply_flow(error.request, flow).send(bytes(response))

    def _refuse(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        response = make_response(
            transaction.request, refusal.status, refusal.reason, to_tag=secrets.token_hex(8)
        )
        for name, value in refusal.headers:
            response.headers.add(name, value)
        self.finish_response(response, transaction)
        transaction.respond(response)

    def _on_cancel(self, transaction: ServerTransaction) -> None:
        invite = self.transactions.find_invite(transaction.request)
        if invite is None:
            self._refuse(transaction, Refusal(481))
            return
        request = transaction.request
        for call in list(self.calls.values()):
            if isinstance(call, IncomingCall) and call.request is invite.request:
                call.respond(transaction, 200)
                call.on_cancel(request)
                return
        self._refuse(transaction, Refusal(200))

    def _on_dialog_request(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        call = self._dialogs.get(_dialog_id(request))
        if call is None or call.state == "ended":
            self._refuse(transaction, Refusal(481))
        elif not call.dialog.accepts(request):
            call.respond(transaction, 500)
        else:
            call.on_flow(transaction.flow)
            call.on_request(transaction)

    def _on_invite(self, transaction: ServerTransaction) -> None:
        refusal = self.admission.check(transaction, list(self.calls.values()))
        if refusal is not None:
            transaction.repeats = bool(refusal.cause) or refusal.status != 503
            self._refuse(transaction, refusal)
            if refusal.cause:
                self._tell_refused(transaction, refusal)
            elif refusal.text:
                self._refused.note(transaction.flow.remote[0], refusal.text)
            return
        call = IncomingCall(self, secrets.token_hex(6), transaction)
        call.account = account_of(self.registrations, call.dialog.local.uri, call.source[0])
        if trace := self.tracer.begin(call.sip_call_id):
            call.trace = trace
            self.tracer.note("in", transaction.flow.remote, bytes(transaction.request))
        transaction.respond(make_response(transaction.request, 100))
        if too_short := call.timer_refusal():
            call.drop()
            self._refuse(transaction, Refusal(422, headers=too_short))
            return
        try:
            call.read_offer()
        except SdpError as error:
            call.drop()
            self._refuse(transaction, Refusal(400, "Bad SDP", (warning(str(error)),)))
            return
        self.register(call, call.dialog)
        log.info("call_in", call=call.id, user=call.user, source=f"{call.source[0]}:{call.source[1]}")

        async def run() -> None:
            try:
                await self.handler.on_invite(call)
            except CallEnded:
                log.info("call_gone", call=call.id)  # cancelled while the handler was about to answer
            except NotAcceptable as error:
                call.failed(error)
            except Exception as error:
                log.exception("on_invite_failed", call=call.id)
                call.failed(error)

        self.spawn(run())

    def _tell_refused(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        request, source = transaction.request, transaction.flow.remote[0]
        call = RefusedCall(
            secrets.token_hex(6),
            request.text("Call-ID"),
            PeerText(str(request.from_.uri)),
            PeerText(parse_request_uri(request.uri).decoded_user),
            source,
            account_of(self.registrations, request.to.uri, source),
            refusal.cause,
            refusal.text,
        )

        async def run() -> None:
            try:
                await self.handler.on_refused(call)
            except Exception:
                log.exception("on_refused_failed", call=call.id)

        self.spawn(run())


def _dialog_id(message: Request | Response) -> DialogId:
    local, remote = (
        (message.to, message.from_) if isinstance(message, Request) else (message.from_, message.to)
    )
    return (message.call_id, local.tag or "", remote.tag or "")
