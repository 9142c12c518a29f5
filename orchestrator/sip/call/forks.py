"""A forked INVITE answered more than once: every further 2xx is acknowledged and hung up (section 13.2.2.4)."""

from __future__ import annotations

from orchestrator.sip.agent.client import Caller, Client
from orchestrator.sip.call.dialog import Dialog
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.transport.flow import Flow


class ExtraForks:
    """The forks of one call that were answered after the one that was taken."""

    def __init__(self, client: Client, call: Caller) -> None:
        self._client = client
        self._call = call
        self._refused: set[str] = set()

    def refuse(self, request: Request, response: Response, flow: Flow) -> None:
        """ACK each 2xx, one BYE for each fork."""
        fork = Dialog.from_response(request, response, flow)
        self._client.send_ack(self._call, fork.request("ACK", seq=request.cseq[0]), fork)
        if fork.remote_tag not in self._refused:
            self._refused.add(fork.remote_tag)
            self._client.send_aside(fork, fork.request("BYE"))
