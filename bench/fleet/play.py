"""One scene: calls that talk half of the time through real orchestrators, while something goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.fleet.phones import CallFigures, Phones
from bench.fleet.scenes import Scene
from bench.fleet.servers import Fleet
from tests.support.house import House, tone, wav_header
from visavis.client.model import Avatar

TURN_S = 5.0
BEFORE_S = 5.0
LATE_CALL_S = 0.1  # a turn's last sample leaves this much before the file says


@dataclass
class Outcome:
    """What a scene came to.

    ``away``: for each turn the longest time without lips, in seconds; ``blind``: calls whose last turn had none.
    ``astray``: how far from its place in the voice the worst mouth was, in seconds.
    """

    calls: int
    dropped: int
    turns: int
    finished: int
    refused: int
    packets: int
    lost: int
    late: int
    worst_late: float
    away: list[float] = field(default_factory=list)
    astray: float = 0.0
    shown: float = 0.0
    blind: int = 0
    sessions: list[int] = field(default_factory=list)
    most_used: int = 0
    slots: int = 0
    beyond: int = 0

    @property
    def uneven(self) -> float:
        """How far the busiest or idlest server is from the mean, as a share of the mean."""
        mean = sum(self.sessions) / max(1, len(self.sessions))
        return max((abs(n - mean) / mean for n in self.sessions), default=0.0) if mean else 0.0

    def row(self, name: str) -> str:
        """A row of the table."""
        away = 1000 * max(self.away, default=0.0)
        return (
            f"| {name} | {self.calls}, {self.dropped} | {self.turns}, {self.finished}, {self.refused} "
            f"| {self.packets}, {self.lost}, {self.late} | {1000 * self.worst_late:.0f} ms "
            f"| {100 * self.shown:.1f} % | {away:.0f} ms "
            f"| {'/'.join(map(str, self.sessions))} | {100 * self.uneven:.0f} % "
            f"| {self.most_used} of {self.slots} |"
        )

    def wrong(self, scene: Scene) -> list[str]:
        """What must be true and was not."""
        spread = max(0.2, 1 / (sum(self.sessions) / max(1, len(self.sessions)) or 1))
        checks = [
            (not self.dropped, f"{self.dropped} calls dropped"),
            (self.finished == self.turns, f"{self.turns - self.finished} turns not finished"),
            (not self.lost, f"{self.lost} audio packets lost"),
            (not self.late, f"{self.late} audio packets more than 20 ms late"),
            (
                max(self.away, default=0.0) <= scene.visible_s,
                f"lips away for {max(self.away, default=0):.2f} s",
            ),
            (not self.blind, f"{self.blind} calls without lips at the end"),
            (self.uneven <= spread, f"load uneven by {100 * self.uneven:.0f} %"),
            (not self.beyond, "a server beyond its slots"),
        ]
        return [f"{scene.name}: {sentence}" for good, sentence in checks if not good]


HEADER = """\
| failure | calls, dropped | turns, finished, refused | audio packets, lost, late by 20 ms | latest \
| ticks with lips | longest without lips | streams by server then | uneven | most slots taken |
|---|---|---|---|---|---|---|---|---|---|"""


async def play(fleet: Fleet, houses: Sequence[House], avatar: Avatar, scene: Scene, calls: int) -> Outcome:
    """Play a scene with so many calls."""
    uris = [houses[i % len(houses)].uri for i in range(calls)]
    rejected = sum(_rejections(house) for house in houses)
    known = {call["call_id"] for house in houses for call in await _calls(house)}
    phones = await asyncio.to_thread(Phones, uris, 25.0)
    try:
        await asyncio.to_thread(phones.called)
        mine = [
            (house, str(call["call_id"]))
            for house in houses
            for call in await _calls(house)
            if call["call_id"] not in known
        ]
        assert len(mine) == calls, (len(mine), calls)
        fleet.forget()
        beyond = fleet.beyond
        over = asyncio.Event()
        talks = [
            asyncio.create_task(_talk(*call, 2 * TURN_S * i / calls, over)) for i, call in enumerate(mine)
        ]
        await asyncio.sleep(BEFORE_S)
        await scene.play(fleet, avatar)
        await asyncio.sleep(scene.after_s)
        over.set()
        sessions, most = fleet.sessions(), max(s.most_used for s in fleet.servers.values())
        await asyncio.gather(*talks)
        ids = {call_id for _, call_id in mine}
        turns = [t for h in houses for c in await _calls(h) if c["call_id"] in ids for t in c["turns"]]
        figures = await asyncio.to_thread(phones.hang_up)
    finally:
        phones.close()
    outcome = _sum(figures)
    outcome.turns = len(turns)
    outcome.finished = min(sum(t["state"] == "finished" for t in turns), _whole(figures))
    outcome.refused = sum(_rejections(house) for house in houses) - rejected
    outcome.sessions, outcome.most_used, outcome.slots = sessions, most, fleet.slots
    outcome.beyond = fleet.beyond - beyond
    return outcome


def _sum(figures: Sequence[CallFigures]) -> Outcome:
    ticks = sum(f.ticks for f in figures)
    return Outcome(
        len(figures),
        sum(f.hung_up for f in figures),
        0,
        0,
        0,
        sum(f.packets for f in figures),
        sum(f.lost + f.skipped for f in figures),
        sum(f.late for f in figures),
        max(f.worst_late for f in figures),
        [away for f in figures for away in f.away],
        max((astray for f in figures for astray in f.astray), default=0.0),
        sum(f.shown for f in figures) / ticks if ticks else 0.0,
        sum(f.away[-1] > f.turns[-1] - 0.2 for f in figures if f.turns),
    )


def _whole(figures: Sequence[CallFigures]) -> int:
    return sum(heard >= TURN_S - LATE_CALL_S for f in figures for heard in f.turns)


def _rejections(house: House) -> int:
    return sum(line["event"] == "avatar" and line.get("state") == "rejected" for line in house.log)


async def _calls(house: House) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = (await house.api.get("/v1/calls")).json()
    return answer


async def _talk(house: House, call_id: str, delay: float, over: asyncio.Event) -> None:
    """A turn, as long a pause, until it is over; returns when the last one has been heard."""
    sound = wav_header() + tone(TURN_S).tobytes()
    begin = time.monotonic() + delay
    turns = 0
    while True:
        try:
            async with asyncio.timeout(max(0.001, begin + turns * 2 * TURN_S - time.monotonic())):
                await over.wait()
        except TimeoutError:
            pass
        if over.is_set():
            break
        turns += 1
        answer = await house.api.post(f"/v1/calls/{call_id}/play", content=sound)
        if answer.status_code != 202:
            raise httpx.HTTPError(f"a turn was not taken: {answer.text}")
    if turns:
        await house.turn(call_id, turns)
