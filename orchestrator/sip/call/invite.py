"""INVITEs of ours: the responses of one server, and the ACK of every 2xx (RFC 3261 sections 13.2.2 and 17.1.1)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from orchestrator.sip.agent.client import Caller, Client
from orchestrator.sip.call.dialog import Dialog
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.transaction.client import ClientTransaction
from orchestrator.sip.transaction.timers import PATIENCE_SECONDS, Timer
from orchestrator.sip.transport.flow import Flow

ACKS_KEPT = 8
"""A 2xx comes again for 32 seconds at most, and one INVITE is open at a time."""


class Attempt:
    """One INVITE to one server, its responses one by one.

    `late` gets each 2xx after the first final response, or after the attempt was given up.

    With `impatient` a server that says nothing is given up: `next` brings 408, and whatever it says later is
    turned away (CANCEL for a provisional response).
    """

    def __init__(
        self,
        client: Client,
        request: Request,
        flow: Flow,
        late: Callable[[Attempt, Response], None],
        *,
        impatient: bool,
    ) -> None:
        self.request = request
        self.flow = flow
        self._client = client
        self._late = late
        self._responses: asyncio.Queue[Response] = asyncio.Queue()
        self._settled = self._given_up = self._cancelled = False
        self._patience: Timer | None = None
        if impatient:
            self._patience = client.clock.call_later(PATIENCE_SECONDS, self._give_up)
        self._transaction: ClientTransaction = client.start(
            request, flow, self._on_response, self._on_failure
        )

    async def next(self) -> Response:
        """The next response, up to the first final one; 408 and 503 stand for silence and broken ways."""
        return await self._responses.get()

    def cancel(self) -> None:
        """CANCEL, once; only after a provisional response (section 9.1)."""
        if not self._cancelled:
            self._cancelled = True
            self._client.cancel(self._transaction)

    def _on_response(self, response: Response) -> None:
        self._stop_waiting()
        if self._settled or self._given_up:
            if response.status < 200:
                self.cancel()
            elif response.status < 300:
                self._late(self, response)
            return
        self._settled = response.status >= 200
        self._responses.put_nowait(response)

    def _on_failure(self, status: int) -> None:
        self._stop_waiting()
        self._responses.put_nowait(Response(status=status, reason="no answer"))

    def _give_up(self) -> None:
        self._given_up = True
        self._responses.put_nowait(Response(status=408, reason="no answer in time"))

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()


class Acks:
    """One call's last ACKs, by the CSeq of their INVITE: sent again whenever the 2xx comes again."""

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
        if len(self._sent) > ACKS_KEPT:
            self._sent.popitem(last=False)
        self._client.send_ack(self._call, ack)

    def again(self, response: Response) -> None:
        """A 2xx that was acknowledged came again."""
        ack = self._sent.get(response.cseq[0])
        if ack is not None:
            self._client.send_ack(self._call, ack)


class ExtraForks:
    """The forks of one call that were answered after the one that was taken: acknowledged and hung up."""

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
