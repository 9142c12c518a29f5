"""Session timers in both roles (RFC 4028): refuse too small ones, refresh at half time, hang up when late."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.grammar import GrammarError, parse_params
from orchestrator.sip.message.message import Message, Request, Response
from orchestrator.sip.sdp.description import small_int
from orchestrator.sip.transaction.timers import Clock, Timer

HeaderLines = tuple[tuple[str, str], ...]


class SessionTimer:
    """The session timer of one call.

    `refresh` is called when a refresh of ours is due, `expired` when the peer's is late.
    """

    def __init__(
        self, clock: Clock, config: SipConfig, refresh: Callable[[], None], expired: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._config = config
        self._refresh = refresh
        self._expired = expired
        self._timers: list[Timer] = []
        self.interval = 0
        self.refresher_is_us = False

    def refuses(self, request: Request) -> HeaderLines | None:
        """The Min-SE of a 422 where the interval asked for is too small (section 9)."""
        asked = _interval(request)
        if asked is not None and asked[0] < self._config.min_se and "timer" in _tokens(request, "Supported"):
            return (("Min-SE", str(self._config.min_se)),)
        return None

    def answer(self, request: Request) -> HeaderLines:
        """The headers of our 2xx, and the timer started (or stopped) accordingly."""
        asked = _interval(request)
        supported = "timer" in _tokens(request, "Supported") or "timer" in _tokens(request, "Require")
        if asked is None and not supported:
            self.stop()
            return ()
        interval, refresher = asked or (self._config.session_expires, "")
        floor = small_int(request.headers.get("Min-SE") or "", 10**6) or 0
        interval = max(min(interval, self._config.session_expires), floor, self._config.min_se)
        if not supported:
            refresher = "uas"
        refresher = refresher or "uac"
        self.start(interval, us=refresher == "uas")
        lines: HeaderLines = (("Session-Expires", f"{interval};refresher={refresher}"),)
        return (("Require", "timer"), *lines) if supported else lines

    def ask(self, request: Request) -> None:
        """Put our wish on a request of ours (INVITE, UPDATE)."""
        interval = self.interval or self._config.session_expires
        suffix = ""
        if self.interval:
            suffix = ";refresher=uac" if self.refresher_is_us else ";refresher=uas"
        request.headers.add("Session-Expires", f"{interval}{suffix}")
        request.headers.add("Min-SE", str(self._config.min_se))

    def raise_to(self, request: Request, response: Response) -> bool:
        """After a 422: ask again for what the peer's Min-SE allows; False where it names none."""
        floor = small_int(response.headers.get("Min-SE") or "", 86_400)
        if response.status != 422 or not floor:
            return False
        request.headers.set("Session-Expires", str(max(floor, self._config.session_expires)))
        request.headers.set("Min-SE", str(floor))
        return True

    def refreshed(self, response: Response) -> None:
        """A 2xx to a request of ours: the peer's choice counts (section 7.2)."""
        chosen = _interval(response)
        if chosen is None:
            self.stop()
        else:
            self.start(max(chosen[0], 30), us=chosen[1] != "uas")

    def start(self, interval: int, *, us: bool) -> None:
        self.stop()
        self.interval = interval
        self.refresher_is_us = us
        grace = min(32.0, interval / 3)
        if us:
            self._timers.append(self._clock.call_later(interval / 2, self._refresh))
        self._timers.append(self._clock.call_later(interval - (0 if us else grace), self._expired))

    def stop(self) -> None:
        self.interval = 0
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _tokens(message: Message, name: str) -> list[str]:
    try:
        return message.headers.tokens(name)
    except GrammarError:
        return []


def _interval(message: Message) -> tuple[int, str] | None:
    value = message.headers.get("Session-Expires")
    if value is None:
        return None
    number, _, rest = value.partition(";")
    seconds = small_int(number, 10**9)
    try:
        refresher = (parse_params(rest).get("refresher") or "").lower()
    except GrammarError:
        refresher = ""
    return None if seconds is None else (seconds, refresher if refresher in ("uac", "uas") else "")
