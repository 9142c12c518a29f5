"""Refusals of requests: the response and its words, and a line in the log now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.sip.message.message import REASONS
from visavis.service.logs import Log

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final response other than 2xx, with the headers that explain it.

    `cause` says what of ours is in the way, where that is worth telling call control; `text` says it in words.
    """

    status: int
    reason: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    cause: str = ""
    text: str = ""


def warning(text: str) -> tuple[str, str]:
    """A Warning header (RFC 3261 section 20.43) with code 399, miscellaneous."""
    clean = "".join(char for char in text if char.isprintable()).replace('"', "'").replace("\\", "/")
    return ("Warning", f'399 visavis "{clean}"')


def unavailable(text: str, retry_after: int = 0, cause: str = "") -> Refusal:
    """503 whose reason phrase and Warning say why: phones show the one, proxies hand on the other."""
    later = (("Retry-After", str(retry_after)),) if retry_after else ()
    return Refusal(503, f"{REASONS[503]} ({text})", (*later, warning(text)), cause, text)


class Complaints:
    """A log of refusals that a flood cannot fill.

    One line a second at most, whose `count` says how many there were.
    """

    def __init__(self, event: str, now: Callable[[], float]) -> None:
        self._event = event
        self._now = now
        self._count = 0
        self._written_at = float("-inf")

    def note(self, source: str, reason: object) -> None:
        self._count += 1
        if self._now() - self._written_at >= 1.0:
            log.info(self._event, source=source, count=self._count, reason=reason)
            self._count, self._written_at = 0, self._now()
