"""The seam: everything outside this package speaks SIP through `SipStack`.

class Handler(BaseHandler):
    async def on_invite(self, call):
        call.ring()
        media = call.answer(MediaCapabilities(call.local_host, AudioCapabilities(port), VideoCapabilities(port2)))

stack = SipStack(SipConfig(udp=("0.0.0.0:5060",)), Handler())
await stack.start()
"""

from __future__ import annotations

import asyncio

from .agent import Agent
from .call import Call
from .clock import LoopClock
from .config import SipConfig
from .events import SipHandler
from .flow import Address, Flow
from .transport import Transports


class SipStack:
    """One SIP endpoint of the process: its sockets, transactions and calls."""

    def __init__(self, config: SipConfig, handler: SipHandler) -> None:
        self.config = config
        self.handler = handler
        self._agent: Agent | None = None
        self._transports = Transports(config, self)

    async def start(self) -> None:
        """Open the sockets. Raises OSError in one sentence where an address cannot be had."""
        clock = LoopClock(asyncio.get_running_loop())
        self._agent = Agent(self.config, self.handler, clock, self._transports)
        try:
            await self._transports.open()
        except BaseException:
            await self._transports.close()
            raise

    async def close(self) -> None:
        """Hang up every call, then close the sockets."""
        if self._agent is not None:
            await self._agent.close()
        await self._transports.close()

    @property
    def agent(self) -> Agent:
        if self._agent is None:
            raise RuntimeError("the SIP stack has not been started")
        return self._agent

    @property
    def addresses(self) -> dict[str, list[Address]]:
        """The bound addresses by transport: "UDP", "TCP", "TLS"."""
        return self._transports.addresses

    @property
    def calls(self) -> dict[str, Call]:
        """The live calls by id."""
        return self.agent.calls

    def drain(self, draining: bool = True) -> None:
        """Answer new calls with 503 while calls in progress go on."""
        self.agent.draining = draining

    def trace_calls(self, enabled: bool = True) -> None:
        """Whether calls from now on record their SIP messages in `call.trace`."""
        self.agent.trace_all = enabled

    # -- what the transports call --

    def receive(self, data: bytes, flow: Flow, *, stream: bool = False) -> None:
        self.agent.receive(data, flow, stream=stream)

    def accepts(self, host: str) -> bool:
        return self.agent.policy.admits(host)

    def on_closed_flow(self, flow: Flow) -> None:
        if self._agent is not None:
            self._agent.on_closed_flow(flow)
