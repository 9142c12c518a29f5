"""Why a picture was not shown: what became of each of its packets on the way, and what took the time."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from testing.caller.path import Crossing, LossyPath
from testing.caller.recording import Packet, Stream
from testing.caller.repair import Repair
from testing.loss_judge import CLOCK_RATE, Shown

SLOW_S = 0.035
"""A host or a phone that answers within this is not to blame: a NACK is read every 20 ms, a slot later repeated."""


def explain(shown: Shown, path: LossyPath, arrived: Stream, repair: Repair | None) -> list[tuple[str, str]]:
    """Cause and story of each picture not shown; times are milliseconds from when it was due at the phone."""
    packets = path.entered.ordered()
    base = packets[0].sequence - packets[0].sequence % 0x10000
    crossings: defaultdict[int, list[Crossing]] = defaultdict(list)
    for crossing in path.crossings:
        sequence = base + crossing.sequence
        if sequence < packets[0].sequence:
            sequence += 0x10000
        crossings[sequence].append(crossing)
    came: dict[int, float] = {}
    for packet in arrived.packets:
        came.setdefault(packet.sequence, packet.arrived)
    known = _known(packets, came)
    first = packets[0].timestamp
    # When a picture is due at the phone, from the usual delay of those that came at the first attempt.
    usual = float(np.median([p.arrived - (p.timestamp - first) / CLOCK_RATE for p in packets])) + path.delay
    stories = []
    for stamp, fault in sorted(shown.faults.items()):
        due = usual + (stamp - first) / CLOCK_RATE
        own = [p for p in packets if p.timestamp == stamp]
        worst = max(own, key=lambda p: came.get(p.sequence, float("inf")))
        asks = repair.asks.get(worst.sequence, []) if repair else []
        tries = crossings[worst.sequence]
        cause = _cause(tries, asks, known[worst.sequence], came.get(worst.sequence), due, path.delay)
        stories.append(
            (
                cause,
                f"{(stamp - first) / CLOCK_RATE:7.2f} s {fault}, {cause}: packet {worst.sequence} "
                f"sent {_ms(tries[0].at - due)}{' lost' if tries[0].lost else ''}, "
                f"could be missed {_ms(known[worst.sequence] - due)}, "
                f"asked for {' '.join(_ms(at - due) for at in asks) or 'never'}, repeated "
                + (" ".join(_ms(t.at - due) + (" lost" if t.lost else "") for t in tries[1:]) or "never")
                + f", came {_ms(came[worst.sequence] - due) if worst.sequence in came else 'never'}",
            )
        )
    return stories


def _known(packets: list[Packet], came: dict[int, float]) -> dict[int, float]:
    """When the phone could see that a packet is missing: the first arrival of a later one."""
    known, soonest = {}, float("inf")
    for packet in reversed(packets):
        known[packet.sequence] = soonest
        soonest = min(soonest, came.get(packet.sequence, float("inf")))
    return known


def _cause(
    tries: list[Crossing], asks: list[float], known: float, came: float | None, due: float, delay: float
) -> str:
    if not tries[0].lost:
        if tries[0].at + delay - due > SLOW_S:
            return "sent late"
        # The relay and the phone are the bench's own: want of CPU there.
        on_time = came is not None and came - tries[0].at - delay < SLOW_S
        return "another before it lost" if on_time else "late at the phone"
    if not asks:
        return "never asked for"
    repeats = tries[1:]
    if not repeats:
        return "never repeated"
    if asks[0] - known > SLOW_S:
        return "asked for late"
    if repeats[0].at - asks[0] - delay > SLOW_S:
        return "repeated late"
    return "repetition lost too" if repeats[0].lost else "noticed late"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:+.0f}"
