"""Whom this orchestrator calls: rules, premium numbers, and limits per minute, at once and a day.

One dial plan binds whatever makes us call somebody, or has a peer do so: the API, transfer, redirects, an
assistant's tools. It does no I/O and has no clock: every method is told `now`, in seconds of one monotonic clock.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import unquote

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType

from orchestrator.calls.gateway import DialForbidden, DialLimit

LEAST_DIGITS = 7
"""Digits from which on a user part is a number of the telephone network rather than an extension."""
MINUTE, DAY = 60.0, 86_400.0

_SEPARATORS = re.compile(r"[-.() ]")
_NUMBER = re.compile(r"\+?[0-9*#]+", re.ASCII)
_RULE = re.compile(r"(allow|deny) (\S+)")
_PREMIUM = {
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.PAGER,
    PhoneNumberType.PERSONAL_NUMBER,
}
_COSTLY_COUNTRIES = {870, 878, 881, 882, 883, 888, 979}
"""Calling codes of satellites, networks and premium services that belong to no country (ITU-T E.164)."""


@dataclass(frozen=True, slots=True)
class DialRule:
    """Targets that match `pattern` may be called, or may not.

    A pattern has `*` and `?`; with `@` it is held against user@host, else against the user part: a number as it was
    dialled and as +, country and number, or a name.
    """

    verdict: Literal["allow", "deny"]
    pattern: str

    @classmethod
    def parse(cls, text: str) -> DialRule:
        """Raises ValueError, in one sentence."""
        match = _RULE.fullmatch(" ".join(text.lower().split()))
        if match is None:
            raise ValueError(f"'{text}' is no rule: write it as allow +49* or deny *@pbx.example")
        return cls("allow" if match[1] == "allow" else "deny", match[2].removeprefix("sip:"))


@dataclass(frozen=True, slots=True)
class DialLimits:
    """How much may be called; 0 is no limit. `minutes_a_day` are those of calls to numbers, over 24 hours."""

    per_minute: int = 60
    at_once: int = 0
    minutes_a_day: int = 1440


@dataclass(slots=True)
class _Placed:
    is_number: bool
    answered: float | None = None


@dataclass(slots=True)
class DialPlan:
    """The first rule that matches decides. Where none does, premium numbers are not called, and everybody else is.

    `region` (ISO 3166, such as DE) is where numbers without a country are of; "": they need a rule, since nobody
    knows which of them cost extra.
    """

    rules: Sequence[DialRule] = ()
    limits: DialLimits = DialLimits()
    region: str = ""
    _attempts: deque[float] = field(default_factory=deque)
    _placed: dict[str, _Placed] = field(default_factory=dict)
    _spent: deque[tuple[float, float]] = field(default_factory=deque)

    def check(self, target: str, now: float, *, of_peer: bool = False) -> None:
        """Whether `target`, a SIP URI, may be called now; counts nothing.

        `of_peer`: a peer names it, so that a rule has to allow it. Raises DialForbidden, or DialLimit where it may
        be called later, with one sentence.
        """
        user, address = _split(target)
        names = {user, *(e164 := self._numbers(user))}
        for rule in self.rules:
            if any(fnmatchcase(each, rule.pattern) for each in ([address] if "@" in rule.pattern else names)):
                if rule.verdict == "deny":
                    raise DialForbidden(f"'{address}' is not called: the dial plan has 'deny {rule.pattern}'")
                break
        else:
            self._check_without_rule(user, address, e164, of_peer)
        self._check_limits(is_number(user), now)

    def attempt(self, target: str, now: float, *, of_peer: bool = False) -> None:
        """The same, and count it in this minute: a call, a transfer or a redirect that is to be made now."""
        self.check(target, now, of_peer=of_peer)
        self._attempts.append(now)

    def place(self, call_id: str, target: str, now: float) -> None:
        """The same for a call of ours, which is under way until :meth:`ended`."""
        self.attempt(target, now)
        self._placed[call_id] = _Placed(is_number(_split(target)[0]))

    def answered(self, call_id: str, now: float) -> None:
        """That call costs from now on; nothing happens where it was not placed here."""
        if (placed := self._placed.get(call_id)) and placed.answered is None:
            placed.answered = now

    def ended(self, call_id: str, now: float) -> None:
        """That call is over; nothing happens where it was not placed here."""
        placed = self._placed.pop(call_id, None)
        if placed is not None and placed.is_number and placed.answered is not None:
            self._spent.append((now, now - placed.answered))

    def _check_without_rule(self, user: str, address: str, e164: Sequence[str], of_peer: bool) -> None:
        if of_peer:
            raise DialForbidden(
                f"'{address}' was named by the peer and is not called: allow it in VISAVIS_DIAL_PLAN"
            )
        if self._is_dear_short(user):
            raise DialForbidden(
                f"'{address}' is an emergency or premium number and is not called: allow it in VISAVIS_DIAL_PLAN"
            )
        if not is_number(user):
            return
        if any(_is_premium(number) for number in e164):
            raise DialForbidden(
                f"'{address}' may be a premium number and is not called: allow it in VISAVIS_DIAL_PLAN"
            )
        if not e164:
            raise DialForbidden(
                f"'{address}' has no country, so that its cost is not known: dial it as + and country, "
                "set VISAVIS_DIAL_REGION, or allow it in VISAVIS_DIAL_PLAN"
            )

    def _check_limits(self, is_number: bool, now: float) -> None:
        limits = self.limits
        while self._attempts and self._attempts[0] <= now - MINUTE:
            self._attempts.popleft()
        while self._spent and self._spent[0][0] <= now - DAY:
            self._spent.popleft()
        if limits.per_minute and len(self._attempts) >= limits.per_minute:
            raise DialLimit(
                f"{limits.per_minute} calls were made in the last minute: VISAVIS_DIAL_PER_MINUTE"
            )
        if limits.at_once and len(self._placed) >= limits.at_once:
            raise DialLimit(f"{limits.at_once} calls of ours are under way: VISAVIS_DIAL_AT_ONCE")
        if limits.minutes_a_day and is_number:
            spent = sum(seconds for _, seconds in self._spent)
            spent += sum(
                now - each.answered
                for each in self._placed.values()
                if each.is_number and each.answered is not None
            )
            if spent >= 60.0 * limits.minutes_a_day:
                raise DialLimit(
                    f"numbers were called for {limits.minutes_a_day} minutes in a day: VISAVIS_DIAL_MINUTES"
                )

    def _is_dear_short(self, user: str) -> bool:
        if not self.region or not user.isdecimal() or len(user) >= LEAST_DIGITS:
            return False
        if phonenumbers.connects_to_emergency_number(user, self.region):
            return True
        number = _parsed(user, self.region)
        if number is None:
            return False
        cost = phonenumbers.expected_cost_for_region(number, self.region)
        return bool(cost == phonenumbers.ShortNumberCost.PREMIUM_RATE)

    def _numbers(self, user: str) -> list[str]:
        """What the number may be, as + and digits; nothing where it is none, or has no country."""
        if not is_number(user) or "*" in user or "#" in user:
            return []
        digits = user.lstrip("+")
        if user.startswith("+"):
            return [user]
        if digits.startswith(("00", "011")):
            return ["+" + digits.removeprefix("011" if digits.startswith("011") else "00")]
        if not self.region:
            return []
        found = [f"+{digits}"]  # trunks write + and country without the +
        if (number := _parsed(digits, self.region)) is not None:
            found.insert(0, f"+{number.country_code}{phonenumbers.national_significant_number(number)}")
        return found


def _split(target: str) -> tuple[str, str]:
    """The user part, a number without separators, and user@host, both in lower case."""
    rest = target.strip().lower()
    rest = rest.partition(":")[2] if rest.startswith(("sip:", "sips:", "tel:")) else rest
    user, _, host = rest.partition("?")[0].rpartition("@") if "@" in rest else (rest, "", "")
    user = unquote(user.partition(";")[0].partition(":")[0])
    plain = _SEPARATORS.sub("", user)
    user = plain if _NUMBER.fullmatch(plain) else user
    host = host.partition(";")[0]
    return user, f"{user}@{host}" if host else user


def is_number(user: str) -> bool:
    """Whether a user part is a number of the telephone network: so many digits, with separators or without."""
    user = _SEPARATORS.sub("", user)
    return bool(_NUMBER.fullmatch(user)) and sum(char.isdigit() for char in user) >= LEAST_DIGITS


def _parsed(text: str, region: str | None) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None


def _is_premium(e164: str) -> bool:
    """Whether a number costs more than a call, by libphonenumber's plans of the countries.

    Of one that is no whole number each beginning is judged: exchanges ignore digits too many.
    """
    number = _parsed(e164, None)
    if number is None:
        return False
    if number.country_code in _COSTLY_COUNTRIES:
        return True
    kind = phonenumbers.number_type(number)
    if kind != PhoneNumberType.UNKNOWN:
        return kind in _PREMIUM
    beginnings = (_parsed(e164[:end], None) for end in range(LEAST_DIGITS, len(e164)))
    return any(each is not None and phonenumbers.number_type(each) in _PREMIUM for each in beginnings)
