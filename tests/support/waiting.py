"""Waiting for what a test is about to look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 30.0
"""No promise about speed: how long a busy machine may take before a test is told that something never comes."""


async def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Return as soon as ``condition()`` is true. Fails the test where that never happens."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
