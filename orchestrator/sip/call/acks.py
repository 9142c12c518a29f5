"""ACKs of ours for 2xx (RFC 3261 section 13.2.2.4): sent again whenever the 2xx comes again."""

from __future__ import annotations

from collections import OrderedDict

from orchestrator.sip.agent.client import Caller, Client
from orchestrator.sip.message.message import Request, Response

KEPT = 8
"""A 2xx comes again for 32 seconds at most, and one INVITE is open at a time."""


class Acks:
    """One call's last ACKs, by the CSeq of their INVITE."""

    def __init__(self, client: Client, call: Caller) -> None:
        self._client = client
        self._call = call
        self._sent: OrderedDict[int, Request] = OrderedDict()

    def acknowledge(self, invite: Request) -> None:
        """ACK the 2xx to this INVITE, with the credentials it had."""
        ack = self._call.dialog.request("ACK", seq=invite.cseq[0])
        for name in ("Authorization", "Proxy-Authorization"):
            for value in invite.headers.all(name):
                ack.headers.add(name, value)
        self._sent[invite.cseq[0]] = ack
        if len(self._sent) > KEPT:
            self._sent.popitem(last=False)
        self._client.send_ack(self._call, ack)

    def again(self, response: Response) -> None:
        """A 2xx that was acknowledged came again."""
        ack = self._sent.get(response.cseq[0])
        if ack is not None:
            self._client.send_ack(self._call, ack)
