"""The simulation of autoscaling, with the policy that the manifests hold."""

from __future__ import annotations

import numpy as np
import pytest

from bench.autoscale import Autoscaler, Policy, patched, simulate, turns_of_a_day


def test_scales_out_at_once_and_in_slowly() -> None:
    scaler = Autoscaler(Policy.from_manifest(), 2)
    assert scaler.sync(0, 7.0) == 6  # ten are wanted; four in half a minute are allowed
    assert scaler.sync(15, 7.0) == 6
    assert scaler.sync(30, 7.0) == 10
    assert {scaler.sync(now, 0.0) for now in range(45, 930, 15)} == {10}
    assert scaler.sync(930, 0.0) == 9  # the quarter of an hour is over
    assert scaler.sync(945, 0.0) == 9
    assert scaler.sync(1050, 0.0) == 8
    assert [scaler.sync(now, 0.0) for now in range(1065, 3000, 15)][-1] == 2


def test_small_changes_are_left_alone() -> None:
    scaler = Autoscaler(Policy.from_manifest(), 10)
    assert scaler.sync(0, 7.5) == 10
    assert scaler.sync(15, 7.8) == 12


def test_a_day_refuses_fewer_than_one_turn_in_a_thousand() -> None:
    turns = turns_of_a_day(120, np.random.default_rng(1))
    day = simulate(turns, Policy.from_manifest(), slots=8, start_s=120)
    assert day.turns > 100_000
    assert day.refused < 0.001 * day.turns
    assert day.least_pod_hours < day.pod_hours < day.fixed_pod_hours / 2
    slow = simulate(turns, Policy.from_manifest("slow-start"), slots=8, start_s=300)
    assert slow.refused < 0.001 * slow.turns
    assert day.pod_hours < slow.pod_hours < day.fixed_pod_hours / 2
    starved = simulate(turns, Policy(0.7, 2, 4, Policy.from_manifest().behavior), slots=8, start_s=120)
    assert starved.refused > 0.1 * starved.turns


def test_a_patch_is_applied_or_refused() -> None:
    manifest = {"spec": {"triggers": [{"threshold": "0.7"}]}}
    operation = {"op": "replace", "path": "/spec/triggers/0/threshold", "value": "0.5"}
    assert patched(manifest, [operation]) == {"spec": {"triggers": [{"threshold": "0.5"}]}}
    assert manifest["spec"]["triggers"][0]["threshold"] == "0.7"
    with pytest.raises(ValueError, match="not remove"):
        patched(manifest, [{"op": "remove", "path": "/spec/triggers/0"}])
