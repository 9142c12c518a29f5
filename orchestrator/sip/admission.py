"""Whether a new call is let in: capacity, rates and, where users are configured, their password."""

from __future__ import annotations

from collections.abc import Iterable

from .authentication import Challenger
from .clock import Clock
from .config import SipConfig
from .policy import SourcePolicy, parse_networks, within
from .refusals import Refusal, unavailable
from .server_transaction import ServerTransaction

DRAINING = "draining: no new calls are taken"
FULL = "full: no more calls at once"


class Admission:
    """Answers with the refusal of an INVITE, or None. `draining` refuses every new call."""

    def __init__(self, config: SipConfig, clock: Clock, policy: SourcePolicy) -> None:
        self.draining = False
        self._config = config
        self._policy = policy
        self._challenger = Challenger(config.realm, config.users, clock.now, config.digest_algorithms)
        self._trusted = parse_networks(config.trusted)

    def check(self, transaction: ServerTransaction, sources: Iterable[str]) -> Refusal | None:
        """`sources` is the source address of every call there is."""
        source = transaction.flow.remote[0]
        busy = list(sources)
        later = self._config.retry_after
        if not self._policy.admits_invite(source):
            return unavailable("too many new calls a second from this address", later)
        if self.draining:
            return unavailable(DRAINING, later, "draining")
        if len(busy) >= self._config.max_calls:
            return unavailable(FULL, later, "no_room")
        if busy.count(source) >= self._config.max_calls_per_source:
            return unavailable("too many calls at once from this address", later)
        if not self._config.users or within(source, self._trusted):
            return None
        challenge = self._challenger.check(transaction.request)
        if challenge is None:
            return None
        if challenge.wrong:
            self._policy.failed(source)
        return Refusal(401, headers=tuple(("WWW-Authenticate", value) for value in challenge.challenges))
