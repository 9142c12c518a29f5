"""What overheard and guessed credentials get, whom we can be made to dial: ``python -m bench.credential_attack``

A user agent that wants passwords, on a fake wire. An INVITE that was let in is sent again as often as ``--times``
says, from other addresses, with another Call-ID, URI or count; wrong passwords are guessed from forged addresses
while the user goes on to call; a callee that is none of the account's servers asks for its password; numbers that
cost extra are dialled, as they are written all over the world. Prints how much of each got through, which is to be
nothing, and how long the user's own call took.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from orchestrator.calls.dial_plan import DialPlan
from orchestrator.calls.gateway import DialRefused
from orchestrator.sip.agent.authentication import Credentials
from orchestrator.sip.agent.digest import answer_challenge, format_credentials, parse_digest
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.message import Request, Response
from tests.support.sip_fake import AUDIO, PEER, Wire, request, sdp, statuses

USER, PASSWORD = "anna", "secret"
URI = "sip:anna@127.0.0.1"
COSTLY = {PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.PERSONAL_NUMBER}
FAST = SipConfig(
    messages_per_second=1e9,
    invites_per_second=1e9,
    users={USER: PASSWORD},
    proxies=(),
    allow_from=("0.0.0.0/0",),
)


@dataclass(frozen=True)
class TrunkOnly:
    """The servers of an account."""

    hosts: frozenset[str]

    def owns(self, host: str) -> bool:
        return host in self.hosts


async def challenged(wire: Wire, number: int, *, source: tuple[str, int] = PEER) -> str:
    """The challenge that a first INVITE gets."""
    text = request("INVITE", body=sdp(AUDIO), branch=f"z9hG4bKq{number}", call_id=f"q{number}")
    answers = await wire.put(text, replace(wire.flow, remote=source, on_close=[]))
    (refusal,) = [one for one in answers if isinstance(one, Response) and one.status == 401]
    return refusal.headers.all("WWW-Authenticate")[0]


def answered(challenge: str, number: int, password: str = PASSWORD, *, count: int = 1) -> str:
    """An INVITE with an answer to it."""
    parsed = parse_digest(challenge)
    assert parsed is not None
    made = answer_challenge(parsed, USER, password, "INVITE", URI, count=count, cnonce="c")
    assert made is not None
    headers = f"Authorization: {format_credentials(made)}"
    ids: dict[str, Any] = {"branch": f"z9hG4bKa{number}", "call_id": f"a{number}", "from_tag": f"a{number}"}
    return request("INVITE", uri=URI, body=sdp(AUDIO), headers=headers, **ids)


async def replays(times: int) -> int:
    """How many of so many repeated INVITEs were let in, one in four of each kind."""
    wire = Wire(config=FAST)
    overheard = answered(await challenged(wire, 0), 0)
    assert 200 in statuses(await wire.put(overheard))
    through = 0
    for number in range(times):
        changed = overheard.replace("z9hG4bKa0", f"z9hG4bKr{number}").replace("c1", f"r{number}")
        changed = changed.replace("Call-ID: a0", f"Call-ID: r{number}").replace(";tag=a0", f";tag=r{number}")
        source = (f"192.0.2.{number % 250}", 5099) if number % 4 == 0 else PEER
        if number % 4 == 2:
            changed = changed.replace(f"INVITE {URI} ", "INVITE sip:boss@127.0.0.1 ")
        if number % 4 == 3:
            changed = changed.replace("nc=00000001", f"nc={number + 2:08x}")
        through += 200 in statuses(await wire.put(changed, replace(wire.flow, remote=source, on_close=[])))
    await wire.run_out()
    return through


async def guesses(times: int) -> tuple[int, float]:
    """How many of so many wrong passwords from forged addresses were let in, and the longest time, in seconds, that
    one of the user's own calls took meanwhile."""
    wire = Wire(config=FAST)
    random.seed(3)
    through, longest = 0, 0.0
    for number in range(times):
        source = (f"198.51.{random.randrange(256)}.{random.randrange(1, 255)}", 5099)
        forged = 'Digest realm="visavis", nonce="1.2", qop="auth", algorithm=MD5'
        guess = answered(forged, number, f"guess{number}")
        through += 200 in statuses(await wire.put(guess, replace(wire.flow, remote=source, on_close=[])))
        if number % 50 == 0:
            began = time.monotonic()
            own = answered(await challenged(wire, times + number), 2 * times + number)
            assert 200 in statuses(await wire.put(own)), "the user was kept out"
            longest = max(longest, time.monotonic() - began)
            for call in list(wire.agent.calls.values()):
                call.shut_down()
            wire.clock.advance(40.0)
    await wire.run_out()
    return through, longest


def stolen(times: int) -> int:
    """How many challenges of a callee's own were answered with the account's password."""
    account = Credentials(
        USER, PASSWORD, names=("trunk.example",), servers=TrunkOnly(frozenset({"192.0.2.9"}))
    )
    through = 0
    for number in range(times):
        challenge = Response(status=407 if number % 2 else 401)
        name = "Proxy-Authenticate" if number % 2 else "WWW-Authenticate"
        realm = ("evil.example", "trunk.example.evil.example", "", "TRUNK.EXAMPLE.")[number % 4]
        challenge.headers.add(name, f'Digest realm="{realm}", nonce="{number}", qop="auth", algorithm=MD5')
        through += account.answer(Request(method="INVITE", uri="sip:a@b"), challenge)
        through += account.are_for(f"203.0.113.{number % 250}")
    return through


def toll_fraud() -> tuple[int, int]:
    """Numbers that cost extra, each way of writing counted, and how many the dial plan of the defaults calls."""
    plan, asked, through = DialPlan(), 0, 0
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in COSTLY:
            number = phonenumbers.example_number_for_type(region, kind)
            if number is None:
                continue
            for form in (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL):
                text = phonenumbers.format_number(number, form)
                for user in {text.replace(" ", ""), text.replace(" ", "-"), f"00{text[1:].replace(' ', '')}"}:
                    asked += 1
                    try:
                        plan.check(f"sip:{user}@trunk.example", 0.0)
                    except DialRefused:
                        continue
                    through += 1
    return asked, through


async def attack(times: int) -> bool:
    """Whether nothing got through."""
    logging.disable(logging.CRITICAL)
    again = await replays(times)
    print(f"overheard INVITEs sent again: {again} of {times} let in")
    guessed, longest = await guesses(times)
    print(f"wrong passwords from forged addresses: {guessed} of {times} let in")
    print(f"the user's own call meanwhile: {1000 * longest:.0f} ms at most")
    given = stolen(times)
    print(f"challenges of strangers answered with the account's password: {given} of {times}")
    asked, dialled = toll_fraud()
    print(f"numbers that cost extra: {dialled} of {asked} dialled")
    return not (again or guessed or given or dialled)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=2000)
    sys.exit(0 if asyncio.run(attack(parser.parse_args().times)) else 1)


if __name__ == "__main__":
    main()
