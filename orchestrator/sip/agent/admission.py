"""Admission of new calls: rates, capacity and, where users are configured, their password."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Protocol

from orchestrator.sip.agent.authentication import Challenger
from orchestrator.sip.agent.budget import Holder, LineBudget
from orchestrator.sip.agent.policy import MAX_SOURCES, SourcePolicy, parse_networks, within
from orchestrator.sip.agent.refusals import Refusal, unavailable
from orchestrator.sip.agent.source_nat import SourceNat
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.grammar import parse_uri
from orchestrator.sip.transaction.server import ServerTransaction
from orchestrator.sip.transaction.timers import Clock
from visavis.service.logs import Log

log = Log(__name__)

DRAINING = "draining: no new calls are taken"
REPLACED = "not acknowledged while its line was needed"
REPLACED_RETRY_AFTER = 4


class Occupant(Holder, Protocol):
    """A call that may have to leave its line."""

    def give_way(self, text: str, retry_after: int) -> None:
        """End a half-open call: with 503, or with BYE where it was answered."""


class Admission:
    """The check of every INVITE that would begin a call. `draining` refuses each of them."""

    def __init__(self, config: SipConfig, clock: Clock, policy: SourcePolicy) -> None:
        self.draining = False
        self._config = config
        self._clock = clock
        self._policy = policy
        self._budget = LineBudget(config.max_calls, config.max_calls_per_source)
        self._challenger = Challenger(config.realm, config.users, clock.now, config.digest_algorithms)
        self._trusted = parse_networks(config.trusted)
        self._proxies = parse_networks(config.proxies)
        uris = {uri for account in config.accounts for uri in (account.registrar, *account.proxies) if uri}
        self._servers = {parse_uri(uri).bare_host for uri in uris}
        self._nat = SourceNat()
        self._is_named = functools.lru_cache(MAX_SOURCES)(lambda host: within(host, self._proxies))

    def check(self, transaction: ServerTransaction, calls: Collection[Occupant]) -> Refusal | None:
        """`calls` are all there are; those that are in the way of this one give way."""
        source = transaction.flow.remote[0]
        if not self._is_exempt(source) and (
            told := self._nat.note(source, transaction.request.via.bare_host)
        ):
            log.warning("source_nat", reason=told)
        later = self._config.retry_after
        if not self._policy.admits_invite(source):
            return unavailable("too many new calls a second from this address", later)
        if self.draining:
            return unavailable(DRAINING, later, "draining")
        sources = {call.source[0] for call in calls if call.half_open} | {source}
        exempt = {host for host in sources if self._is_exempt(host)}
        verdict = self._budget.judge(list(calls), source, self._clock.now(), exempt)
        for call in verdict.overdue:
            call.give_way(REPLACED, REPLACED_RETRY_AFTER)
        if verdict.refused:
            return unavailable(verdict.refused, later, "no_room" if verdict.ours else "")
        if self._config.users and not within(source, self._trusted):
            relayed = self._is_exempt(source)
            challenge = self._challenger.check(transaction.request, source, relayed=relayed)
            if challenge is not None and challenge.wait:
                return unavailable(challenge.problem, challenge.wait)
            if challenge is not None:
                values = tuple(("WWW-Authenticate", value) for value in challenge.challenges)
                return Refusal(401, headers=values, text=challenge.problem)
        if verdict.replaced is not None:
            verdict.replaced.give_way(REPLACED, REPLACED_RETRY_AFTER)
        return None

    def _is_exempt(self, host: str) -> bool:
        """Whether the calls of this address are many callers': a proxy's or a trunk's."""
        return host in self._servers or self._policy.is_trunk(host) or self._is_named(host)
