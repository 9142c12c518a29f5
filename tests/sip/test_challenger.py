"""Passwords of callers: what is asked, what is taken, and what whoever overheard or guesses gets for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from orchestrator.sip.agent.authentication import Challenge, Challenger
from orchestrator.sip.agent.digest import answer_challenge, format_credentials, parse_digest
from orchestrator.sip.agent.guesses import Guesses
from orchestrator.sip.agent.nonces import MAX_USED, Nonces
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.message import Request, Response
from tests.support.sip_fake import AUDIO, PEER, Wire, request, sdp, statuses

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
URI = "sip:anna@visavis.example"


@dataclass
class Desk:
    """A challenger on a clock of its own, and a phone that answers it."""

    now: float = 1000.0
    users: dict[str, str] = field(default_factory=lambda: {"anna": "secret"})
    algorithms: tuple[str, ...] = ("SHA-256", "MD5")

    def __post_init__(self) -> None:
        self.challenger = Challenger("visavis", self.users, lambda: self.now, self.algorithms)

    def challenge(self, source: str = HERE, index: int = 0) -> str:
        challenge = self.challenger.check(Request(method="INVITE", uri=URI), source)
        assert challenge is not None and not challenge.wait
        return challenge.challenges[index]

    def answer(
        self, challenge: str, *, password: str = "secret", count: int = 1, user: str = "anna", uri: str = URI
    ) -> Request:
        parsed = parse_digest(challenge)
        assert parsed is not None
        made = answer_challenge(parsed, user, password, "INVITE", uri, count=count, cnonce="c")
        assert made is not None
        answered = Request(method="INVITE", uri=URI)
        answered.headers.add("Authorization", format_credentials(made))
        return answered

    def check(self, answered: Request, source: str = HERE, *, relayed: bool = False) -> Challenge | None:
        return self.challenger.check(answered, source, relayed=relayed)


def refused(challenge: Challenge | None) -> str:
    assert challenge is not None
    return challenge.problem


@pytest.mark.parametrize("index", [0, 1])
def test_a_password_lets_in_once(index: int) -> None:
    desk = Desk()
    answered = desk.answer(desk.challenge(index=index))
    assert desk.check(answered) is None
    again = desk.check(answered)
    assert again is not None and "used before" in again.problem
    assert all("stale=true" in value for value in again.challenges)


def test_sha_256_is_asked_for_first_and_what_is_not_a_setting_is_not_taken() -> None:
    desk = Desk()
    assert ["SHA-256" in desk.challenge(index=index) for index in (0, 1)] == [True, False]
    strict = Desk(algorithms=("SHA-256",))
    weak = strict.challenge().replace("SHA-256", "MD5")
    assert "algorithm" in refused(strict.check(strict.answer(weak)))


def test_what_was_overheard_is_good_nowhere_else() -> None:
    desk = Desk()
    answered = desk.answer(desk.challenge())
    assert "another source" in refused(desk.check(answered, ELSEWHERE))
    other = Request(method="INVITE", uri="sip:premium@visavis.example", headers=answered.headers)
    assert "another URI" in refused(desk.check(other))
    method = Request(method="UPDATE", uri=URI, headers=answered.headers)
    assert "wrong password" in refused(desk.check(method))
    assert desk.check(answered) is None


def test_a_proxy_may_have_changed_the_uri() -> None:
    desk = Desk()
    answered = desk.answer(desk.challenge(), uri="sip:anna@proxy.example:5070")
    assert "another URI" in refused(desk.check(answered))
    assert desk.check(answered, relayed=True) is None


@pytest.mark.parametrize("uri", ["sip:anna@VISAVIS.example", "sip:%61nna@visavis.example;transport=udp"])
def test_the_same_uri_may_be_written_otherwise(uri: str) -> None:
    desk = Desk()
    assert desk.check(desk.answer(desk.challenge(), uri=uri)) is None


def test_the_form_without_qop_is_not_taken() -> None:
    desk = Desk()
    plain = desk.challenge().replace(', qop="auth"', "")
    assert "qop" in refused(desk.check(desk.answer(plain)))


def test_counts_may_overtake_each_other_but_none_comes_twice() -> None:
    desk = Desk()
    challenge = desk.challenge()
    taken = [count for count in (1, 5, 3, 3, 5, 2, 4, 70, 6, 7, 70) if
             desk.check(desk.answer(challenge, count=count)) is None]  # fmt: skip
    assert taken == [1, 5, 3, 2, 4, 70, 7]


def test_a_nonce_is_good_for_five_minutes() -> None:
    desk = Desk()
    challenge = desk.challenge()
    desk.now += 299
    assert desk.check(desk.answer(challenge)) is None
    desk.now += 2
    stale = desk.check(desk.answer(challenge, count=2))
    assert stale is not None and "stale=true" in stale.challenges[0]
    wrong = desk.check(desk.answer(challenge, count=3, password="guess"))
    assert wrong is not None and "stale" not in wrong.challenges[0]


def test_a_nonce_of_another_process_is_stale() -> None:
    before, desk = Desk(), Desk()
    stale = desk.check(desk.answer(before.challenge()))
    assert stale is not None and "stale=true" in stale.challenges[0]


def test_used_nonces_that_are_forgotten_are_good_no_more() -> None:
    now = 0.0
    nonces = Nonces(lambda: now)
    first = nonces.make(HERE)
    assert nonces.take(first, 1)
    for number in range(MAX_USED):
        now = 1 + number / 1000
        assert nonces.take(nonces.make(HERE), 1)
    assert not nonces.is_ours(first, HERE) and nonces.is_ours(nonces.make(HERE), HERE)
    assert len(nonces._used) == MAX_USED


def test_who_guesses_waits_longer_each_time() -> None:
    desk, waited = Desk(), []
    for _ in range(12):
        verdict = desk.check(desk.answer(desk.challenge(), password="guess"))
        while verdict is not None and verdict.wait:
            waited.append(verdict.wait)
            desk.now += verdict.wait
            verdict = desk.check(desk.answer(desk.challenge(), password="guess"))
        assert verdict is not None and "wrong password" in verdict.problem
    assert waited == [1, 2, 4, 8, 16, 32, 64, 128]
    blocked = desk.check(desk.answer(desk.challenge()))
    assert blocked is not None and blocked.wait == 256
    desk.now += 256
    assert desk.check(desk.answer(desk.challenge())) is None
    assert refused(desk.check(desk.answer(desk.challenge(), password="guess")))
    assert desk.check(desk.answer(desk.challenge())) is None  # the right one forgot the wrong ones


def test_nobody_waits_for_anothers_guesses() -> None:
    desk = Desk(users={"anna": "secret", "ben": "secret"})
    for _ in range(30):
        desk.check(desk.answer(desk.challenge(), password="guess"))
    assert desk.check(desk.answer(desk.challenge(ELSEWHERE)), ELSEWHERE) is None
    assert desk.check(desk.answer(desk.challenge(), user="ben")) is None


def test_forged_addresses_make_nobody_wait() -> None:
    """Who does not hear our answers has no nonce of that address."""
    desk = Desk()
    for number in range(100):
        forged = desk.answer(f'Digest realm="visavis", nonce="{number}", qop="auth"', password="guess")
        assert refused(desk.check(forged))
        assert refused(desk.check(desk.answer(desk.challenge(ELSEWHERE), password="guess")))
    assert desk.check(desk.answer(desk.challenge())) is None


def test_a_proxy_never_waits() -> None:
    desk = Desk()
    for _ in range(100):
        assert refused(desk.check(desk.answer(desk.challenge(), password="guess"), relayed=True))
    assert desk.check(desk.answer(desk.challenge()), relayed=True) is None


def test_guesses_of_many_are_not_all_kept() -> None:
    guesses = Guesses(lambda: 0.0)
    for number in range(5000):
        guesses.failed(f"user{number}", HERE)
    assert len(guesses._records) == 4096


def invite(number: int, header: str = "") -> str:
    return request("INVITE", branch=f"z9hG4bK{number}", call_id=f"c{number}", body=sdp(AUDIO), headers=header)


def authorized(wire: Wire, number: int, password: str, challenge: str) -> str:
    parsed = parse_digest(challenge)
    assert parsed is not None
    uri = invite(0).split()[1]
    made = answer_challenge(parsed, "anna", password, "INVITE", uri, count=number, cnonce="c")
    assert made is not None
    return invite(number, f"Authorization: {format_credentials(made)}")


async def test_a_live_call_outlasts_wrong_passwords_of_its_own_address() -> None:
    wire = Wire(config=SipConfig(users={"anna": "secret"}, proxies=()))
    (challenged,) = await wire.put(invite(1))
    assert isinstance(challenged, Response)
    challenge = challenged.headers.all("WWW-Authenticate")[0]
    assert statuses(await wire.put(authorized(wire, 2, "secret", challenge))) == [100, 200]
    seen = []
    for number in range(3, 30):
        seen += statuses(await wire.put(authorized(wire, number, "guess", challenge)))
    assert seen[:4] == [401] * 4 and set(seen[4:]) == {503}
    (call,) = wire.agent.calls.values()
    assert call.state == "answered"
    bye = request("BYE", branch="z9hG4bKbye", call_id="c2", seq=2, to_tag=call.dialog.local_tag)
    assert statuses(await wire.put(bye)) == [200]


async def test_a_captured_invite_brings_no_second_call() -> None:
    wire = Wire(config=SipConfig(users={"anna": "secret"}, proxies=()))
    (challenged,) = await wire.put(invite(1))
    assert isinstance(challenged, Response)
    good = authorized(wire, 2, "secret", challenged.headers.all("WWW-Authenticate")[0])
    assert statuses(await wire.put(good)) == [100, 200]
    assert statuses(await wire.put(good.replace("z9hG4bK2", "z9hG4bKr1").replace(" c2", " r1"))) == [401]
    stranger = replace(wire.flow, remote=("127.0.0.77", PEER[1]), on_close=[])
    assert statuses(
        await wire.put(good.replace("z9hG4bK2", "z9hG4bKr2").replace(" c2", " r2"), stranger)
    ) == [401]
    assert len(wire.agent.calls) == 1
