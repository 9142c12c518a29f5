"""These tests need LiveKit Agents; without it they are not collected (``make test-livekit`` has it)."""

import asyncio
import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("livekit") else ["*"]


@pytest.fixture(scope="session")
def livekit_runtime() -> None:
    """LiveKit's own threads and descriptors, which a process keeps to its end."""
    from livekit import rtc

    async def once() -> None:
        source = rtc.AudioSource(24_000, 1)
        await source.aclose()

    asyncio.run(once())
