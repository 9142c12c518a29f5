"""Server transactions (RFC 3261 section 17.2, RFC 6026): absorb requests, replay responses."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.transaction.timers import T1, T2, T4, Clock, Timer
from orchestrator.sip.transport.flow import Flow


class ServerTransaction:
    """One request of the peer's being answered. `respond` may be called until a final response has gone out.

    `repeats` False: a refusal goes out again only when its INVITE does (a flood would be answered eleven times
    over), and is soon forgotten (RFC 3261 section 8.2.7).
    """

    def __init__(
        self, request: Request, flow: Flow, clock: Clock, key: tuple[str, ...], on_end: Callable[[], None]
    ) -> None:
        self.request = request
        self.flow = flow
        self.key = key
        self.last: Response | None = None
        self.repeats = True
        self.state = "trying"
        self._clock = clock
        self._on_end = on_end
        self._timers: list[Timer] = []

    @property
    def final_sent(self) -> bool:
        return self.state not in ("trying", "proceeding")

    def respond(self, response: Response) -> None:
        raise NotImplementedError

    def receive(self, request: Request, flow: Flow) -> bool:
        """A message that matches this transaction; False hands an ACK on to the dialog."""
        raise NotImplementedError

    def terminate(self) -> None:
        if self.state == "terminated":
            return
        self.state = "terminated"
        self._stop_timers()
        self._on_end()

    def _send(self, response: Response) -> None:
        self.last = response
        self.flow.send(bytes(response))

    def _replay(self, flow: Flow) -> None:
        if flow.reliable:
            self.flow = flow
        if self.last is not None:
            flow.send(bytes(self.last))

    def _after(self, delay: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._clock.call_later(delay, callback))

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


class InviteServerTransaction(ServerTransaction):
    """An INVITE of the peer's: proceeding → completed → confirmed, or proceeding → accepted for a 2xx."""

    def respond(self, response: Response) -> None:
        if self.final_sent:
            return
        self._send(response)
        if response.status < 200:
            self.state = "proceeding"
        elif response.status < 300:
            self.state = "accepted"
            self._after(64 * T1, self.terminate)
        else:
            self.state = "completed"
            self._after(64 * T1 if self.repeats else T4, self.terminate)
            if self.repeats and not self.flow.reliable:
                self._retransmit_in(T1)

    def receive(self, request: Request, flow: Flow) -> bool:
        if request.method == "ACK":
            if self.state == "accepted":
                return False
            if self.state == "completed":
                self.state = "confirmed"
                self._stop_timers()
                self._after(0 if flow.reliable else T4, self.terminate)
            return True
        if self.state in ("proceeding", "completed"):
            self._replay(flow)
        return True

    def _retransmit_in(self, interval: float) -> None:
        def fire() -> None:
            if self.state == "completed" and self.last is not None:
                self.flow.send(bytes(self.last))
                self._retransmit_in(min(2 * interval, T2))

        self._after(interval, fire)


class NonInviteServerTransaction(ServerTransaction):
    """Any other request of the peer's: trying → proceeding → completed (Timer J)."""

    def respond(self, response: Response) -> None:
        if self.final_sent:
            return
        self._send(response)
        if response.status < 200:
            self.state = "proceeding"
        else:
            self.state = "completed"
            self._after(0 if self.flow.reliable else 64 * T1, self.terminate)

    def receive(self, request: Request, flow: Flow) -> bool:
        self._replay(flow)
        return True
