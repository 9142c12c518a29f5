"""The user agent client: requests of ours, in and out of dialogs, with credentials and a way to the peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from orchestrator.sip.agent.authentication import Credentials
from orchestrator.sip.agent.policy import SourcePolicy
from orchestrator.sip.call.dialog import Dialog
from orchestrator.sip.call.session_timer import SessionTimer
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.grammar import Uri
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.transaction.client import ClientTransaction
from orchestrator.sip.transaction.layer import TransactionLayer, new_branch
from orchestrator.sip.transaction.timers import PATIENCE_SECONDS, Clock
from orchestrator.sip.transport.flow import Flow
from orchestrator.sip.transport.locate import Hop
from visavis.service.logs import Log

log = Log(__name__)
VIA_ROOM = 300
AVOIDED_SECONDS = 60.0
MAX_FAILED = 1000


class Connector(Protocol):
    """Finds the ways to a URI and opens them, or reuses a connection. Everything raises OSError."""

    async def locate(self, uri: Uri) -> list[Hop]: ...

    def local_host(self, hop: Hop) -> str: ...

    async def open_flow(self, hop: Hop, *, size: int = 0) -> Flow: ...


class Caller(Protocol):
    """A call as its requests see it."""

    id: str
    credentials: Credentials | None
    timer: SessionTimer

    @property
    def dialog(self) -> Dialog: ...

    def on_repeated_answer(self, response: Response) -> None:
        """A 2xx that was acknowledged came again."""


class Client:
    """The user agent client: sends requests and brings back final responses.

    408 and 503 stand for silence and broken ways.
    """

    def __init__(
        self,
        config: SipConfig,
        clock: Clock,
        policy: SourcePolicy,
        transactions: TransactionLayer,
        connector: Connector,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.config = config
        self.clock = clock
        self._policy = policy
        self._transactions = transactions
        self._connector = connector
        self._spawn = spawn
        self._failed: dict[Hop, float] = {}

    async def hops(self, uri: Uri) -> list[Hop]:
        """The ways to a URI (RFC 3263), those that failed lately last. Raises OSError where there is none."""
        now = self.clock.now()
        hops = await self._connector.locate(uri)
        return sorted(hops, key=lambda hop: self._failed.get(hop, 0.0) > now)

    @staticmethod
    def proxies(target: Uri) -> tuple[None]:
        """Without an account a call goes to the target's own server."""
        return (None,)

    async def open(self, hop: Hop, *, size: int = 0) -> Flow:
        """A flow over one hop. Raises OSError or TimeoutError."""
        try:
            flow = await self._connector.open_flow(hop, size=size)
        except (OSError, TimeoutError):
            self.avoid(hop)
            raise
        self._policy.contacted(flow.remote[0])
        return flow

    def local_host(self, hop: Hop) -> str:
        """Our address as peers beyond this hop reach it. Raises OSError."""
        return self.config.advertised_host or self._connector.local_host(hop)

    def avoid(self, hop: Hop) -> None:
        """Nobody answered there: for a while it is tried last (section 4.3)."""
        if len(self._failed) > MAX_FAILED:
            self._failed.clear()
        self._failed[hop] = self.clock.now() + AVOIDED_SECONDS

    def trust(self, hop: Hop) -> None:
        """That server is a trunk of ours: it may call."""
        self._policy.trust(hop.host)

    async def flow_to(self, uri: Uri, *, size: int = 0) -> Flow:
        """A flow over the first hop that can be opened. Raises OSError."""
        problem: Exception = OSError(f"no way to {uri}")
        for hop in await self.hops(uri):
            try:
                return await self.open(hop, size=size)
            except (OSError, TimeoutError) as error:
                problem = error
        raise OSError(str(problem) or "no connection in time")

    def start(
        self,
        request: Request,
        flow: Flow,
        on_response: Callable[[Response], None],
        on_failure: Callable[[int], None],
    ) -> ClientTransaction:
        """Send a request whose responses the caller follows one by one."""
        if request.method in ("INVITE", "UPDATE", "REGISTER"):
            request.headers.set("Contact", f"<{flow.contact_uri(self.config.contact_user)}>")
        request.headers.set("User-Agent", self.config.user_agent)
        return self._transactions.request(request, flow, on_response, on_failure)

    def cancel(self, invite: ClientTransaction) -> None:
        """CANCEL an INVITE that has had a provisional response and no final one (RFC 3261 section 9.1)."""
        self._transactions.cancel(invite)

    async def exchange(
        self,
        request: Request,
        flow: Flow,
        again: Callable[[Response], None] | None = None,
        *,
        impatient: bool = False,
    ) -> Response:
        """Send one request and wait for its final response; `again` gets each further 2xx to an INVITE.

        With `impatient` (there is another server to ask) one that says nothing at all is soon given up.
        """
        done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def on_response(response: Response) -> None:
            if patience is not None:
                patience.cancel()
            if response.status < 200:
                return
            if not done.done():
                done.set_result(response)
            elif again is not None:
                again(response)

        def on_failure(status: int) -> None:
            if not done.done():
                done.set_result(Response(status=status, reason="no answer"))

        def give_up() -> None:
            transaction.terminate()
            on_failure(408)

        patience = self.clock.call_later(PATIENCE_SECONDS, give_up) if impatient else None
        transaction = self.start(request, flow, on_response, on_failure)
        try:
            return await done
        finally:
            if patience is not None:
                patience.cancel()

    async def transact(self, call: Caller, request: Request) -> Response:
        """Send a request in the call's dialog; a challenge is answered once with the call's credentials."""
        for _ in range(3):
            try:
                flow = await self._flow_for(call.dialog, len(bytes(request)) + VIA_ROOM)
            except OSError as error:
                return Response(status=503, reason=str(error))
            response = await self.exchange(request, flow, call.on_repeated_answer)
            again = self.authorize(call.credentials, request, response, flow.remote[0])
            if not again and not call.timer.raise_to(request, response):
                break
            call.dialog.local_seq += 1
            renew(request, call.dialog.local_seq)
        return response

    def send(self, call: Caller, request: Request) -> None:
        """Send a request whose outcome does not matter, such as BYE."""

        async def run() -> None:
            await self.transact(call, request)

        self._spawn(run())

    def send_aside(self, dialog: Dialog, request: Request) -> None:
        """The same in a dialog that is not the call's own, early or forked."""

        async def run() -> None:
            try:
                flow = await self.flow_to(dialog.next_hop())
            except OSError:
                return
            await self.exchange(request, flow)

        self._spawn(run())

    def send_ack(self, call: Caller, ack: Request, dialog: Dialog | None = None) -> None:
        """An ACK for a 2xx: outside any transaction, each time with a branch of its own."""

        async def run() -> None:
            try:
                flow = await self._flow_for(dialog or call.dialog, 0)
            except OSError as error:
                log.warning("ack_unsent", call=call.id, error=error)
                return
            ack.headers.remove("Via")
            via = f"SIP/2.0/{flow.transport} {flow.host_port};branch={new_branch()};rport"
            ack.headers.prepend("Via", via)
            flow.send(bytes(ack))

        self._spawn(run())

    @staticmethod
    def authorize(credentials: Credentials | None, request: Request, response: Response, server: str) -> bool:
        """Whether the request, now with credentials for `server` (an IP address), is worth sending again."""
        if response.status not in (401, 407) or credentials is None:
            return False
        return credentials.are_for(server) and credentials.answer(request, response)

    async def _flow_for(self, dialog: Dialog, size: int) -> Flow:
        if dialog.pinned and not dialog.flow.closed and (dialog.flow.reliable or not dialog.route_set):
            return dialog.flow
        return await self.flow_to(dialog.next_hop(), size=size)


def renew(request: Request, seq: int) -> None:
    """Make a request ready to be sent in a new transaction."""
    request.headers.remove("Via")
    request.headers.set("CSeq", f"{seq} {request.method}")
