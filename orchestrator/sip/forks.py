"""A forked INVITE answered more than once: every further 2xx is acknowledged and hung up (section 13.2.2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .dialog import Dialog
from .flow import Flow
from .message import Request, Response

if TYPE_CHECKING:
    from .agent import Agent
    from .call import Call


class ExtraForks:
    """The forks of one call that were answered after the one that was taken."""

    def __init__(self, agent: Agent, call: Call) -> None:
        self._agent = agent
        self._call = call
        self._refused: set[str] = set()

    def refuse(self, request: Request, response: Response, flow: Flow) -> None:
        """ACK each 2xx, one BYE for each fork."""
        fork = Dialog.from_response(request, response, flow)
        self._agent.client.send_ack(self._call, fork.request("ACK", seq=request.cseq[0]), fork)
        if fork.remote_tag in self._refused:
            return
        self._refused.add(fork.remote_tag)
        bye = fork.request("BYE")

        async def run() -> None:
            try:
                flow = await self._agent.client.flow_to(fork.next_hop())
            except OSError:
                return
            await self._agent.client.exchange(bye, flow)

        self._agent.spawn(run())
