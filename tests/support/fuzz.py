"""What the fuzzers of SIP and RTP share: inputs guided by line coverage, and a fence that collects escapes."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import TraceFunction

Mutate = Callable[[bytes, bytes, random.Random], bytes]
"""``mutate(source, other, rng)``: a few edits of one input, perhaps with pieces of another."""


def guided(
    parse: Callable[[bytes], None],
    corpus: Sequence[bytes],
    mutate: Mutate,
    package: str,
    count: int,
    seed: int,
    *,
    report: bool = False,
) -> tuple[list[bytes], int]:
    """Mutate what reached new lines of ``package`` (a part of its files' paths).

    Returns the corpus with the inputs that did, and the number of line-to-line steps seen.
    """
    rng = random.Random(seed)
    seeds = list(corpus)
    steps: set[tuple[object, int, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> TraceFunction | None:
        code = frame.f_code
        if package not in code.co_filename:
            return None
        last = frame.f_lineno

        def step(frame: FrameType, event: str, _: Any) -> TraceFunction:
            nonlocal last
            steps.add((code, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    for number in range(count):
        data = mutate(rng.choice(seeds), rng.choice(seeds), rng) if number >= len(seeds) else seeds[number]
        before = len(steps)
        sys.settrace(trace)
        try:
            parse(data)
        finally:
            sys.settrace(None)
        if len(steps) > before:
            seeds.append(data)
        if report and number % 20_000 == 0:
            print(f"{number} inputs, {len(seeds)} in the corpus, {len(steps)} steps", flush=True)
    return seeds, len(steps)


class Escapes(logging.Handler):
    """Collects what was caught at the outermost fence and logged as an error: there should be nothing."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))
