"""Autoscaling of inference pods on synthetic days, with the policies that the manifests hold.

    python -m bench.autoscale [--days 5] [--slots 8] [--peak-calls 120] [--into docs/kubernetes.md]

The day is made, not recorded: calls come as a Poisson process whose rate follows two office peaks, with bursts of
three times the rate for five minutes; a call lasts four minutes on average and its avatar speaks in turns of eight
seconds, half of the time. A turn that begins while every slot of every ready pod is taken counts as refused (the
voice is heard all the same, the mouth stays still until a slot is free). Steps of a second. The HPA is modelled as
documented: a sync every 15 s on a metric scraped before, tolerance 10 %, stabilization windows, scaling policies,
minimum and maximum; a pod is ready ``start_s`` after it was asked for and drains at once. *Least possible* knows
the future to the second and starts pods in no time.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from testing.page import mark, write_into

COMPONENTS = Path(__file__).parent.parent / "deploy/kubernetes/components"
COMMAND = "python -m bench.autoscale"
STARTS = [("", 60), ("", 120), ("", 300), ("slow-start", 300)]
"""Components over KEDA's and the seconds until a pod is ready that the table is of."""
DAY_S = 86_400
SYNC_S = 15
WINDOW_S = 30
"""The query takes the most of so many seconds."""
TOLERANCE = 0.1


@dataclass
class Policy:
    """What the ScaledObject says."""

    target: float
    least: int
    most: int
    behavior: dict[str, Any]

    @classmethod
    def from_manifest(cls, component: str = "") -> Policy:
        """The numbers of the shipped ScaledObject, as patched by a component."""
        manifest = yaml.safe_load((COMPONENTS / "keda" / "scaled-object.yaml").read_text())
        if component:
            kustomization = yaml.safe_load((COMPONENTS / component / "kustomization.yaml").read_text())
            (patch,) = [p for p in kustomization["patches"] if p["target"]["kind"] == "ScaledObject"]
            manifest = patched(manifest, yaml.safe_load(patch["patch"]))
        spec = manifest["spec"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        target = float(spec["triggers"][0]["metadata"]["threshold"])
        return cls(target, spec["minReplicaCount"], spec["maxReplicaCount"], behavior)

    @property
    def sentence(self) -> str:
        """The policy as the docs have it."""

        def steps(policies: list[dict[str, Any]]) -> str:
            names = {"Percent": " %", "Pods": " pods"}
            return " or ".join(
                f"{p['value']}{names[p['type']] if p['value'] > 1 else ' pod'} each {p['periodSeconds']} s"
                for p in policies
            )

        up, down = self.behavior["scaleUp"], self.behavior["scaleDown"]
        return (
            f"target {self.target:g}; out by {steps(up['policies'])}; in by {steps(down['policies'])} after "
            f"{down['stabilizationWindowSeconds']} s; {self.least} to {self.most} pods"
        )


def patched(manifest: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """A manifest after the ``replace`` operations of a JSON patch (RFC 6902)."""
    out = copy.deepcopy(manifest)
    for operation in operations:
        if operation["op"] != "replace":
            raise ValueError(f"only replace is understood here, not {operation['op']}")
        *path, last = operation["path"].strip("/").split("/")
        place: Any = out
        for key in path:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(last) if isinstance(place, list) else last] = operation["value"]
    return out


@dataclass
class Autoscaler:
    """The HPA's arithmetic; times in whole seconds."""

    policy: Policy
    replicas: int
    _wanted: deque[tuple[int, int]] = field(default_factory=deque)
    _changes: list[tuple[int, int]] = field(default_factory=list)

    def sync(self, now: int, pods_worth: float) -> int:
        """Replicas from now on; ``pods_worth``: busy slots and turns without one, over the slots of a pod."""
        behavior = self.policy.behavior
        ratio = pods_worth / (self.policy.target * self.replicas)
        wanted: int = self.replicas
        if abs(ratio - 1) > TOLERANCE:
            wanted = math.ceil(pods_worth / self.policy.target)
        wanted = min(self.policy.most, max(self.policy.least, wanted))
        self._wanted.append((now, wanted))
        while self._wanted[0][0] <= now - behavior["scaleDown"]["stabilizationWindowSeconds"]:
            self._wanted.popleft()
        held = max(w for _, w in self._wanted)
        before = self.replicas
        if wanted > self.replicas:
            self.replicas = min(wanted, self._limit(now, behavior["scaleUp"]["policies"], up=True))
        elif held < self.replicas:
            self.replicas = max(held, self._limit(now, behavior["scaleDown"]["policies"], up=False))
        if self.replicas != before:
            self._changes.append((now, self.replicas - before))
        return self.replicas

    def _limit(self, now: int, policies: Sequence[dict[str, Any]], *, up: bool) -> int:
        limits: list[int] = []
        for policy in policies:
            since = now - policy["periodSeconds"]
            recent = sum(d for at, d in self._changes if at > since and (d > 0) == up)
            start = self.replicas - recent
            step = policy["value"] if policy["type"] == "Pods" else math.ceil(start * policy["value"] / 100)
            limits.append(start + step if up else start - step)
        return max(limits) if up else min(limits)


def turns_of_a_day(peak_calls: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Begin and end second of every turn, ordered by begin: shape (turns, 2)."""
    t = np.arange(DAY_S)
    hour = t / 3600
    shape = 0.02 + np.exp(-(((hour - 10.5) / 1.8) ** 2)) + 0.9 * np.exp(-(((hour - 15) / 2.0) ** 2))
    shape /= shape.max()
    factor = np.ones(DAY_S)
    for at in rng.integers(8 * 3600, 19 * 3600, 6):
        factor[at : at + 300] = 3
    rate = peak_calls / 240 * shape * factor
    starts = np.repeat(t, rng.poisson(rate))
    lengths = rng.exponential(240, len(starts))
    turns = []
    for start, length in zip(starts, lengths, strict=True):
        at, end = start + rng.exponential(4), min(start + length, DAY_S)
        while at < end:
            said = rng.exponential(8)
            turns.append((int(at), math.ceil(min(at + said, end))))
            at += said + rng.exponential(8)
    return np.array(sorted(turns), np.int64)


@dataclass
class Outcome:
    """What a day came to."""

    turns: int
    refused: int
    pod_hours: float
    least_pod_hours: float
    fixed_pod_hours: float
    most_pods: int
    most_speaking: int


def simulate(turns: NDArray[np.int64], policy: Policy, slots: int, start_s: int) -> Outcome:
    """A day under the policy, and what pods that knew the future would have taken."""
    scaler = Autoscaler(policy, policy.least)
    ready = policy.least
    coming: deque[int] = deque()  # when each pod that was asked for is ready
    ends = np.zeros(DAY_S + 1, np.int64)
    without_ends = np.zeros(DAY_S + 1, np.int64)
    without = 0  # turns under way that found no slot
    begins = np.searchsorted(turns[:, 0], np.arange(DAY_S + 1))
    speaking = refused = pod_seconds = most = 0
    used: deque[int] = deque(maxlen=WINDOW_S)
    for now in range(DAY_S):
        while coming and coming[0] <= now:
            coming.popleft()
            ready += 1
        speaking -= ends[now]
        without -= without_ends[now]
        for end in turns[begins[now] : begins[now + 1], 1]:
            if speaking >= ready * slots:
                refused += 1
                without += 1
                without_ends[max(int(end), now + 1)] += 1
            else:
                speaking += 1
                ends[max(int(end), now + 1)] += 1
        used.append(int(speaking + without))
        if now % SYNC_S == 0:
            replicas = scaler.sync(now, max(used) / slots)
            while ready + len(coming) < replicas:
                coming.append(now + start_s)
            while ready + len(coming) > replicas:
                if coming:
                    coming.pop()
                else:
                    ready -= 1
        pod_seconds += ready + len(coming)
        most = max(most, ready + len(coming))
    wanted = np.zeros(DAY_S + 1, np.int64)
    np.add.at(wanted, turns[:, 0], 1)
    np.add.at(wanted, np.maximum(turns[:, 1], turns[:, 0] + 1), -1)
    load = np.cumsum(wanted)[:DAY_S]
    pods = np.maximum(np.ceil(load / slots), 1)
    return Outcome(
        len(turns),
        refused,
        pod_seconds / 3600,
        float(pods.sum() / 3600),
        24.0 * float(pods.max()),
        most,
        int(load.max()),
    )


def table(peak_calls: float, slots: int, days: int) -> str:
    """A Markdown table: ranges over the days for each policy and start."""
    made = [turns_of_a_day(peak_calls, np.random.default_rng(seed)) for seed in range(1, days + 1)]
    rows = [
        "| policy | pod ready after | turns refused | pod hours a day | least possible | times the least "
        "| pods for the peak, all day |",
        "|---|---|---|---|---|---|---|",
    ]
    for component, start_s in STARTS:
        policy = Policy.from_manifest(component)
        outcomes = [simulate(turns, policy, slots, start_s) for turns in made]
        rows.append(
            f"| {component or 'default'} | {start_s} s "
            f"| {span([100 * o.refused / o.turns for o in outcomes], '.3f')} % "
            f"| {span([o.pod_hours for o in outcomes], '.0f')} "
            f"| {span([o.least_pod_hours for o in outcomes], '.0f')} "
            f"| {span([o.pod_hours / o.least_pod_hours for o in outcomes], '.1f')} "
            f"| {span([o.fixed_pod_hours for o in outcomes], '.0f')} |"
        )
    return "\n".join(rows)


def span(values: Sequence[float], form: str) -> str:
    """Least to most, or the one value."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--slots", type=int, default=8, help="speaking slots of a pod")
    parser.add_argument(
        "--peak-calls", type=float, default=120, help="calls at once at the peak, bursts apart"
    )
    parser.add_argument("--into", type=Path, help=f"page whose table after {mark(COMMAND)} is replaced")
    options = parser.parse_args(arguments)
    made = table(options.peak_calls, options.slots, options.days)
    print(made)
    if options.into:
        write_into(options.into, COMMAND, made)


if __name__ == "__main__":
    main()
