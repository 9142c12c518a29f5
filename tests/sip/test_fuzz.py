"""Nothing a peer sends escapes the parsers or the agent, and nothing of it is left behind."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sip_fake import Wire, established, request, statuses
from tests.support.sip_mutate import corpus, guided, mutants, parse_everything, run


@pytest.mark.parametrize("seed", [1, 2])
async def test_mutated_messages(seed: int) -> None:
    escaped, wire = await run(3000, seed)
    assert escaped == []
    assert not wire.agent.calls
    assert len(wire.agent.transactions) == 0
    assert wire.clock.pending == 0


def test_guided_by_coverage() -> None:
    found, steps = guided(1500, seed=4)
    assert len(found) > len(corpus())
    assert steps > 700


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_random_bytes(data: bytes) -> None:
    parse_everything(data)
    parse_everything(corpus()[0][: len(data)] + data)


async def test_a_call_goes_on_undisturbed() -> None:
    wire = Wire()
    tag = await established(wire)
    for data in mutants(400, seed=3):
        if b"Call-ID: c1" not in data or b"BYE" not in data:
            await wire.put(data)
    bye = request("BYE", branch="z9hG4bKlast", seq=10**6, to_tag=tag)
    assert statuses(await wire.put(bye)) == [200]
