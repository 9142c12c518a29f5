"""One INVITE of ours to one server: its responses one by one, and what comes too late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.sip.agent.client import Client
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.transaction.client import ClientTransaction
from orchestrator.sip.transaction.clock import Timer
from orchestrator.sip.transaction.timers import PATIENCE_SECONDS
from orchestrator.sip.transport.flow import Flow


class Attempt:
    """`late` gets each 2xx after the first final response, or after the attempt was given up.

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
