"""Nothing a peer sends escapes the RTP and RTCP readers, and the calls go on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from tests.support.rtp_mutate import Readers, corpus, guided, under_fire


def test_guided_by_coverage() -> None:
    found, steps = guided(3000, seed=4)
    assert len(found) > len(corpus())
    assert steps > 300


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes(data: bytes) -> None:
    readers = Readers()
    readers.read(data)
    for whole in corpus():
        readers.read(whole[: len(data)] + data)


@pytest.mark.process
@pytest.mark.parametrize("seed", [1, 2])
async def test_calls_under_fire_go_on(seed: int) -> None:
    outcome = await under_fire(4000, seed)
    assert outcome.escaped == []
    assert outcome.seen > 1000
    assert outcome.ports_left == 0
    # Its media time goes on: every packet is sent, or skipped where a busy machine came too late for it.
    assert outcome.bystander_sent + outcome.bystander_skipped == pytest.approx(outcome.bystander_due, abs=3)
    assert outcome.bystander_after > 0
