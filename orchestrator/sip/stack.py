"""The SIP stack: everything outside this package speaks SIP through `SipStack`.

class Handler(BaseHandler):
    async def on_invite(self, call):
        call.ring()
        media = call.answer(MediaCapabilities(call.local_host, AudioCapabilities(port), VideoCapabilities(port2)))

stack = SipStack(SipConfig(udp=("0.0.0.0:5060",)), Handler())
await stack.start()
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable

from orchestrator.sip.agent.agent import Agent
from orchestrator.sip.agent.registration import Registration
from orchestrator.sip.call.call import Call
from orchestrator.sip.call.outgoing import OutgoingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.handler import SipHandler
from orchestrator.sip.message.grammar import GrammarError, NameAddr, Uri, parse_uri
from orchestrator.sip.sdp.capabilities import MediaCapabilities
from orchestrator.sip.transaction.timers import LoopClock
from orchestrator.sip.transport.flow import Address, Flow, bracketed
from orchestrator.sip.transport.transport import Transports
from visavis.service.supervisor import Supervisor


class SipStack:
    """One SIP endpoint of the process: its sockets, transactions and calls."""

    def __init__(self, config: SipConfig, handler: SipHandler, supervisor: Supervisor | None = None) -> None:
        self.config = config
        self.handler = handler
        self._supervisor = supervisor or Supervisor()
        self._agent: Agent | None = None
        self._transports = Transports(config, self)
        self._registering: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the sockets. Raises OSError in one sentence where an address cannot be had."""
        clock = LoopClock(asyncio.get_running_loop())
        self._agent = Agent(self.config, self.handler, clock, self._transports, self._supervisor)
        try:
            await self._transports.open()
        except BaseException:
            await self._transports.close()
            raise

        for account in self.config.accounts:
            registration = Registration(self._agent.client, account)
            self._agent.registrations.append(registration)
            if account.register:
                name = f"registration {account.uri}"
                self._registering.append(self._supervisor.keep(name, registration.run))
            if account.ping > 0 and account.proxies:
                name = f"trunk {account.uri}"
                self._registering.append(self._supervisor.keep(name, registration.trunk.run))

    async def close(self) -> None:
        """Take back registrations, hang up every call, then close the sockets."""
        for task in self._registering:
            task.cancel()
        await asyncio.gather(*self._registering, return_exceptions=True)
        if self._agent is not None:
            closing = asyncio.gather(*(registration.close() for registration in self.registrations))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(closing, 2.0)
            await self._agent.close()
        await self._transports.close()

    @property
    def agent(self) -> Agent:
        if self._agent is None:
            raise RuntimeError("the SIP stack has not been started")
        return self._agent

    @property
    def registrations(self) -> list[Registration]:
        """One for each configured account."""
        return self.agent.registrations

    @property
    def addresses(self) -> dict[str, list[Address]]:
        """The bound addresses by transport: "UDP", "TCP", "TLS"."""
        return self._transports.addresses

    @property
    def calls(self) -> dict[str, Call]:
        """The live calls by id."""
        return self.agent.calls

    def dial(
        self,
        to: str,
        capabilities: MediaCapabilities,
        *,
        account: str = "",
        display_name: str = "",
        timeout: float = 60.0,
        call_id: str = "",
    ) -> OutgoingCall:
        """Call `to` (a SIP URI, or a user name or number at the account's host). Returns at once.

        The handler is told on_progress, on_media, then on_established, or on_ended with the outcome.
        `account` is the uri of a configured account; by default the first one, and none where there is none.
        `capabilities` without an address are offered with the one that the callee's server is reached from.
        `call_id` names the call in logs and `calls`; by default a new one.
        Raises ValueError for a `to` that cannot be dialled.
        """
        registration = self._registration(account)
        if registration is not None:
            local, credentials = registration.local, registration.credentials
        else:
            host = self.config.advertised_host or capabilities.address
            uri = Uri("sip", self.config.contact_user, bracketed(host))  # without a host: the INVITE's own
            local, credentials = NameAddr(uri), None
        target = dialled_uri(to, local.uri.host if registration else "")
        call = OutgoingCall(
            self.agent,
            call_id or secrets.token_hex(6),
            target,
            capabilities,
            local=NameAddr(local.uri, display_name),
            credentials=credentials,
            way=registration,
            timeout=timeout,
            account=registration.account.uri if registration else "",
        )
        self.agent.start_call(call)
        return call

    def _registration(self, account: str) -> Registration | None:
        for registration in self.registrations:
            if account in ("", registration.account.uri):
                return registration
        if account:
            raise ValueError(f"no account {account!r} is configured")
        return None

    def connect(
        self, transport: str, local: Address, remote: Address, send: Callable[[bytes, Address], None]
    ) -> Flow:
        """The flow of a connection that somebody else holds, such as a WebSocket (RFC 7118): what comes over it is
        given to ``receive``, and ``disconnect`` says that it is gone. ``send`` never raises."""

        def tell(data: bytes, to: Address) -> None:
            send(data, to)
            self.on_sent(data, to)

        return Flow(transport, local, remote, tell, f"{bracketed(local[0])}:{local[1]}")

    def disconnect(self, flow: Flow) -> None:
        """Such a connection is gone; calls that came over it go on."""
        flow.closed = True
        self.on_closed_flow(flow)

    def drain(self, draining: bool = True) -> None:
        """Answer new calls with 503 while calls in progress go on."""
        self.agent.admission.draining = draining

    def trace_calls(self, calls: int | None = None) -> None:
        """The next so many calls record their SIP messages in `call.trace`; None: all from now on."""
        self.agent.tracer.upcoming = calls

    # -- what the transports call --

    def receive(self, data: bytes, flow: Flow, *, stream: bool = False) -> None:
        self.agent.receive(data, flow, stream=stream)

    def accepts(self, host: str) -> bool:
        return self.agent.policy.admits(host)

    def on_sent(self, data: bytes, remote: Address) -> None:
        if self._agent is not None:
            self._agent.tracer.note("out", remote, data)

    def on_closed_flow(self, flow: Flow) -> None:
        if self._agent is not None:
            self._agent.on_closed_flow(flow)


def dialled_uri(to: str, host: str) -> Uri:
    """`sip:user@host`, `user@host`, or a bare user where there is a host to go with it."""
    text = to.strip()
    if not text.lower().startswith(("sip:", "sips:")):
        user = text.removeprefix("tel:")
        text = f"sip:{text}" if "@" in text else f"sip:{user}@{host}"
    try:
        uri = parse_uri(text)
    except GrammarError as error:
        raise ValueError(
            f"{to!r} cannot be dialled: it is not a SIP URI such as sip:anna@example.com"
        ) from error
    return uri.without_headers()
