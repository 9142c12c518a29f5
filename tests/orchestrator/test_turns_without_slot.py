"""The figure by which pods are added in an overload: turns under way that found no speaking slot anywhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import generate_latest

from orchestrator.calls.events import CallEvent
from orchestrator.metrics import OrchestratorCollector, make_registry


def test_a_turn_without_a_slot_counts_until_it_ends() -> None:
    switchboard = SimpleNamespace(active=0, refused=0, calls=[], call=lambda call_id: None)
    collector = OrchestratorCollector(cast(Any, switchboard), cast(Any, SimpleNamespace(workers=[])))

    def figure() -> float:
        lines = generate_latest(make_registry(collector)).decode().splitlines()
        (line,) = [line for line in lines if line.startswith("visavis_turns_without_slot ")]
        return float(line.split()[1])

    def happens(kind: str, call: str, **data: object) -> float:
        collector.count(CallEvent(kind, call, data))
        return figure()

    assert figure() == 0
    assert happens("avatar", "a", state="rejected") == 1
    assert happens("avatar", "a", state="rejected") == 1  # told once more
    assert happens("avatar", "b", state="rejected") == 2
    assert happens("avatar", "c", state="connected") == 2
    assert happens("turn_finished", "a") == 1
    assert happens("avatar", "a", state="rejected") == 2
    assert happens("turn_interrupted", "b") == 1
    assert happens("ended", "a", cause="bye") == 0
