"""Whom we call: rules, premium numbers, and what is enough for a minute, for now and for a day."""

from __future__ import annotations

import pytest

from orchestrator.calls.dial_plan import DialLimits, DialPlan, DialRule, is_number
from orchestrator.calls.gateway import DialForbidden, DialLimit


def plan(*rules: str, region: str = "", **limits: int) -> DialPlan:
    return DialPlan([DialRule.parse(rule) for rule in rules], DialLimits(**limits), region)


def allowed(plan: DialPlan, target: str, *, of_peer: bool = False) -> bool:
    try:
        plan.check(target, 0.0, of_peer=of_peer)
    except DialForbidden:
        return False
    return True


@pytest.mark.parametrize(
    "target",
    [
        "sip:anna@pbx.example", "sip:100@10.0.0.5", "sip:+4930123456@trunk.example", "sip:+49-30-123456@trunk",
        "sip:004930123456@trunk.example;transport=tcp", "sip:+12125550100@trunk", "+4930123456", "sip:pbx.example",
        "sip:123456@pbx.example", "sip:a-1234567@pbx.example", "tel:+442079460000",
    ],
)  # fmt: skip
def test_without_a_rule_people_are_called(target: str) -> None:
    assert allowed(plan(), target)


@pytest.mark.parametrize(
    "target",
    [
        "sip:+499001123456@trunk.example",  # Germany, 0900
        "sip:+49-900-1123456@trunk.example", "sip:00499001123456@trunk.example", "sip:011499001123456@trunk",
        "sip:+4990011234567890@trunk.example",  # digits too many
        "sip:+19005551234@trunk.example", "sip:+33899123456@trunk.example", "sip:+449091234567@trunk.example",
        "sip:+881612345678@trunk.example", "sip:+88213123456@trunk.example", "sip:+97912345678@trunk.example",
        "sip:%2B499001123456@trunk.example", "sip:+499001123456:pw@trunk.example", "+499001123456",
        "sip:+499001123456;phone-context=x@trunk.example", "sips:+499001123456@trunk.example", "tel:+499001123456",
    ],
)  # fmt: skip
def test_without_a_rule_premium_numbers_are_not(target: str) -> None:
    with pytest.raises(
        DialForbidden, match="premium number and is not called: allow it in VISAVIS_DIAL_PLAN"
    ):
        plan().check(target, 0.0)


@pytest.mark.parametrize(
    "target", ["sip:09001123456@trunk", "sip:*31#09001123456@trunk", "sip:4930123456@trunk"]
)
def test_a_number_without_a_country_needs_a_rule_or_a_region(target: str) -> None:
    with pytest.raises(DialForbidden, match="VISAVIS_DIAL_REGION"):
        plan().check(target, 0.0)
    assert allowed(plan("allow *@trunk"), target)
    assert allowed(plan(region="DE"), target) == ("900" not in target)


@pytest.mark.parametrize("number", ["112", "110", "911"])
def test_an_avatar_calls_no_fire_brigade(number: str) -> None:
    assert allowed(plan(region="US" if number == "911" else "DE"), f"sip:{number}@trunk") is False
    assert allowed(plan("allow 1*", "allow 9*", region="DE"), f"sip:{number}@trunk")


def test_the_first_rule_that_matches_decides() -> None:
    rules = plan("deny +4987*", "ALLOW  +49*", "allow sip:*@pbx.example", "deny *", region="DE")
    reached = [
        "sip:+4930123456@trunk", "sip:03012345678@trunk", "sip:+49-30-123456@trunk",
        "sip:+499001123456@trunk",
        "sip:Anna@PBX.example", "sip:+33123456789@pbx.example",
    ]  # fmt: skip
    refused = ["sip:+4987654321@trunk", "sip:08765432100@trunk", "sip:anna@trunk", "sip:+33123456789@trunk"]
    assert [target for target in reached + refused if allowed(rules, target)] == reached
    with pytest.raises(DialForbidden, match=r"the dial plan has 'deny \*'"):
        rules.check("sip:anna@trunk", 0.0)


@pytest.mark.parametrize("text", ["", "+49*", "permit +49*", "allow", "allow a b", "deny: *"])
def test_what_is_no_rule_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no rule: write it as"):
        DialRule.parse(text)


def test_what_a_peer_names_needs_a_rule() -> None:
    assert not allowed(plan(), "sip:anna@elsewhere", of_peer=True)
    assert allowed(plan("allow *@elsewhere"), "sip:anna@elsewhere", of_peer=True)


def test_so_many_a_minute() -> None:
    bounded = plan(per_minute=3)
    for second in range(3):
        bounded.attempt("sip:anna@pbx", second)
    with pytest.raises(DialLimit, match="3 calls were made in the last minute: VISAVIS_DIAL_PER_MINUTE"):
        bounded.attempt("sip:anna@pbx", 59.9)
    bounded.attempt("sip:anna@pbx", 60.0)
    with pytest.raises(DialLimit):
        bounded.check("sip:anna@pbx", 60.5)


def test_what_is_refused_counts_nothing() -> None:
    bounded = plan(per_minute=1)
    for _ in range(5):
        with pytest.raises(DialForbidden):
            bounded.attempt("sip:+499001123456@trunk", 0.0)
    bounded.attempt("sip:anna@pbx", 0.0)


def test_so_many_at_once() -> None:
    bounded = plan(at_once=2)
    bounded.place("a", "sip:anna@pbx", 0.0)
    bounded.place("b", "sip:anna@pbx", 0.0)
    with pytest.raises(DialLimit, match="2 calls of ours are under way"):
        bounded.place("c", "sip:anna@pbx", 100.0)
    bounded.ended("a", 100.0)
    bounded.place("c", "sip:anna@pbx", 100.0)
    bounded.ended("unknown", 100.0)


def test_so_many_minutes_to_numbers_a_day() -> None:
    bounded, number = plan(minutes_a_day=10), "sip:+4930123456@trunk"
    bounded.place("a", number, 0.0)
    bounded.place("b", "sip:anna@pbx", 0.0)
    bounded.answered("b", 0.0)
    bounded.ended("b", 3000.0)  # no number
    bounded.answered("a", 3000.0)
    bounded.answered("a", 3100.0)
    bounded.ended("a", 3300.0)
    bounded.place("c", number, 3300.0)
    bounded.answered("c", 3300.0)
    bounded.check(number, 3599.0)
    with pytest.raises(DialLimit, match="VISAVIS_DIAL_MINUTES"):
        bounded.check(number, 3600.0)
    bounded.check("sip:anna@pbx", 3600.0)
    bounded.ended("c", 3600.0)
    with pytest.raises(DialLimit):
        bounded.check(number, 3300.0 + 86_399)
    bounded.check(number, 3300.0 + 86_400)


def test_calls_that_nobody_answers_cost_no_minutes() -> None:
    bounded, number = plan(minutes_a_day=1), "sip:+4930123456@trunk"
    bounded.place("a", number, 0.0)
    bounded.ended("a", 600.0)
    bounded.check(number, 600.0)


def test_what_is_a_number() -> None:
    assert [is_number(user) for user in ("+49 30 1234", "1234567", "123456", "anna", "*31#12345")] == [
        True, True, False, False, True,
    ]  # fmt: skip
