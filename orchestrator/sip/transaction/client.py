"""Client transactions (RFC 3261 section 17.1, RFC 6026): send again until answered, ACK what failed."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.transaction.timers import T1, T2, T4, TIMER_B, TIMER_D, Clock, Timer
from orchestrator.sip.transport.flow import Flow


class ClientTransaction:
    """One request of ours on its way. Exactly one of a final response or `on_failure` ends it (2xx may repeat)."""

    def __init__(
        self,
        request: Request,
        flow: Flow,
        clock: Clock,
        on_response: Callable[[Response], None],
        on_failure: Callable[[int], None],
        on_end: Callable[[], None],
    ) -> None:
        self.request = request
        self.flow = flow
        self.state = "trying"
        self._clock = clock
        self._on_response = on_response
        self._on_failure = on_failure
        self._on_end = on_end
        self._timers: list[Timer] = []

    def start(self) -> None:
        """Send the request for the first time and arm its timers."""
        self.flow.on_close.append(self._broken)
        if self.flow.closed:
            self._after(0, self._broken)
            return
        self._send()
        if not self.flow.reliable:
            self._resend_in(T1)
        self._after(TIMER_B, self._timeout)

    def expect_end(self) -> None:
        """Give up when no final response comes within 64 T1: a cancelled INVITE (section 9.1)."""
        self._after(TIMER_B, self._timeout)

    def receive(self, response: Response) -> None:
        raise NotImplementedError

    def terminate(self) -> None:
        if self.state == "terminated":
            return
        self.state = "terminated"
        self._stop_timers()
        if self._broken in self.flow.on_close:
            self.flow.on_close.remove(self._broken)
        self._on_end()

    def _send(self) -> None:
        self.flow.send(bytes(self.request))

    def _next_interval(self, interval: float) -> float:
        return 2 * interval

    def _resend_in(self, interval: float) -> None:
        def fire() -> None:
            if self._resending():
                self._send()
                self._resend_in(self._next_interval(interval))

        self._after(interval, fire)

    def _resending(self) -> bool:
        return self.state == "trying"

    def _timeout(self) -> None:
        self.terminate()
        self._on_failure(408)

    def _broken(self) -> None:
        if self.state in ("trying", "proceeding"):
            self.terminate()
            self._on_failure(503)

    def _after(self, delay: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._clock.call_later(delay, callback))

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


class InviteClientTransaction(ClientTransaction):
    """An INVITE of ours: calling → proceeding → completed (Timer D) or accepted (Timer M)."""

    _ack = b""

    def receive(self, response: Response) -> None:
        if response.status < 200:
            if self.state in ("trying", "proceeding"):
                if self.state == "trying":
                    self._stop_timers()
                self.state = "proceeding"
                self._on_response(response)
        elif response.status < 300:
            if self.state in ("trying", "proceeding"):
                self._stop_timers()
                self.state = "accepted"
                self._after(64 * T1, self.terminate)
            if self.state == "accepted":
                self._on_response(response)
        elif self.state in ("trying", "proceeding"):
            self._stop_timers()
            self.state = "completed"
            self._acknowledge(response)
            self._after(0 if self.flow.reliable else TIMER_D, self.terminate)
            self._on_response(response)
        elif self.state == "completed":
            self._acknowledge(response)

    def _acknowledge(self, response: Response) -> None:
        """Section 17.1.1.3: same branch, the response's To.

        Made once: the request may have gone out again by then, in another transaction with a branch of its own.
        """
        if self._ack:
            self.flow.send(self._ack)
            return
        ack = Request(method="ACK", uri=self.request.uri)
        ack.headers.add("Via", self.request.headers.all("Via")[0])
        for name, value in self.request.headers:
            if name.lower() in ("from", "call-id", "route", "max-forwards"):
                ack.headers.add(name, value)
        ack.headers.add("To", response.headers.get("To") or "")
        ack.headers.add("CSeq", f"{self.request.cseq[0]} ACK")
        self._ack = bytes(ack)
        self.flow.send(self._ack)


class NonInviteClientTransaction(ClientTransaction):
    """Any other request of ours: trying → proceeding → completed (Timer K)."""

    def receive(self, response: Response) -> None:
        if self.state not in ("trying", "proceeding"):
            return
        if response.status < 200:
            self.state = "proceeding"
            self._on_response(response)
            return
        self._stop_timers()
        self.state = "completed"
        self._after(0 if self.flow.reliable else T4, self.terminate)
        self._on_response(response)

    def _resending(self) -> bool:
        return self.state in ("trying", "proceeding")

    def _next_interval(self, interval: float) -> float:
        return T2 if self.state == "proceeding" else min(2 * interval, T2)
