"""ACKs of ours for 2xx (RFC 3261 section 13.2.2.4): sent again whenever the 2xx comes again."""

from __future__ import annotations

from .client import Caller, Client
from .message import Request, Response


class Acks:
    """One call's ACKs, by the CSeq of their INVITE."""

    def __init__(self, client: Client, call: Caller) -> None:
        self._client = client
        self._call = call
        self._sent: dict[int, Request] = {}

    def acknowledge(self, invite: Request) -> None:
        """ACK the 2xx to this INVITE, with the credentials it had."""
        ack = self._call.dialog.request("ACK", seq=invite.cseq[0])
        for name in ("Authorization", "Proxy-Authorization"):
            for value in invite.headers.all(name):
                ack.headers.add(name, value)
        self._sent[invite.cseq[0]] = ack
        self._client.send_ack(self._call, ack)

    def again(self, response: Response) -> None:
        """A 2xx that was acknowledged came again."""
        ack = self._sent.get(response.cseq[0])
        if ack is not None:
            self._client.send_ack(self._call, ack)
