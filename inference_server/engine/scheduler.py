"""Which frames the engine draws next: earliest deadline first over all sessions. Sans-IO.

Frames that a stream is not entitled to, because it asks for more than are shown, come after everybody's others.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference_server.streams.turn import FrameJob, TurnFrames

MOST_FAILURES = 4  # of a row on its own, before it is given up


@dataclass(slots=True)
class Batch:
    """Jobs for one submission."""

    jobs: list[FrameJob]
    failures: int = 0  # of these rows before


class Scheduler:
    """Plans batches by the engine's own cost, and never waits to fill one.

    A batch takes at most ``batch_ms`` while the first frame of a turn is due, and at most ``longest_batch_ms``
    while none is: later frames are drawn ahead of their time and lose nothing in a batch that is long and cheap.
    """

    def __init__(
        self, costs: Sequence[tuple[int, float]], batch_ms: float, longest_batch_ms: float = 0.0
    ) -> None:
        self.batch_ms = batch_ms
        self.longest_batch_ms = max(batch_ms, longest_batch_ms)
        self._retries: deque[tuple[FrameJob, int, int]] = (
            deque()
        )  # job, most rows of its next batch, failures
        self.set_costs(costs)

    def set_costs(self, costs: Sequence[tuple[int, float]]) -> None:
        """Milliseconds per bucket, ascending."""
        self._costs = sorted((int(rows), float(ms)) for rows, ms in costs) or [(1, 1.0)]
        self.soon, self.largest = self._fitting(self.batch_ms), self._fitting(self.longest_batch_ms)

    def _fitting(self, milliseconds: float) -> int:
        """The bucket of the best throughput among those that take no longer; at least the smallest."""
        fitting = [(rows, ms) for rows, ms in self._costs if ms <= milliseconds] or self._costs[:1]
        return max(fitting, key=lambda cost: (cost[0] / max(cost[1], 0.01), cost[0]))[0]

    def cost_ms(self, rows: int) -> float:
        """What a batch of so many rows takes: that of the smallest bucket that holds it."""
        for bucket, ms in self._costs:
            if bucket >= rows:
                return ms
        bucket, ms = self._costs[-1]
        return ms * rows / bucket

    def next_batch(self, turns: Iterable[TurnFrames], now: float, most: int | None = None) -> Batch | None:
        """The next batch, of at most ``most`` rows, or ``None`` when nothing is due."""
        limit = min(self.largest, most) if most is not None else self.largest
        if self._retries:
            return self._next_retry(limit)
        heap: list[tuple[bool, bool, float, int, FrameJob]] = []
        for order, turn in enumerate(turns):
            job = turn.peek()
            if job is not None:
                heap.append((*self._urgency(job, now), order, job))
        if any(not later for _, later, *_ in heap):
            limit = min(limit, self.soon)
        heapq.heapify(heap)
        jobs: list[FrameJob] = []
        while heap and len(jobs) < limit:
            *_, order, job = heapq.heappop(heap)
            job.turn.take(job, now)
            jobs.append(job)
            following = job.turn.peek()
            if following is not None:
                heapq.heappush(heap, (*self._urgency(following, now), order, following))
        return Batch(jobs) if jobs else None

    def put_back(self, jobs: Sequence[FrameJob], failures: int = 0) -> None:
        """Jobs of a batch that did not fit into the ring: next, as they were."""
        self._retries.extendleft((job, len(jobs), failures) for job in reversed(jobs))

    def failed(self, batch: Batch) -> list[FrameJob]:
        """The batch failed: its rows are tried again at a smaller bucket; returns those that are given up."""
        rows = len(batch.jobs)
        failures = batch.failures + 1 if rows == 1 else 0
        if rows == 1 and failures >= MOST_FAILURES:
            return batch.jobs
        smaller = [bucket for bucket, _ in self._costs if bucket < rows]
        cap = smaller[-1] if smaller else 1
        self._retries.extend((job, cap, failures) for job in batch.jobs)
        return []

    def abandoned(self) -> list[FrameJob]:
        """Retries that are not worth drawing any more (dead epoch, other loop index, late)."""
        gone = [job for job, *_ in self._retries if not _worth(job)]
        if gone:
            self._retries = deque(entry for entry in self._retries if _worth(entry[0]))
        return gone

    def clear(self) -> None:
        """The engine is gone, and with it what was tried again."""
        self._retries.clear()

    def _next_retry(self, limit: int) -> Batch:
        batch = Batch([])
        while self._retries and len(batch.jobs) < max(1, min(limit, self._retries[0][1])):
            job, _, failures = self._retries.popleft()
            batch.jobs.append(job)
            batch.failures = max(batch.failures, failures)
        return batch

    @staticmethod
    def _urgency(job: FrameJob, now: float) -> tuple[bool, bool, float]:
        turn = job.turn
        return (not turn.entitled(now), not turn.first_frame(job.frame), turn.deadline(job.frame, now))


def _worth(job: FrameJob) -> bool:
    return job.turn.wanted(job) and not job.turn.is_late(job.frame)
