"""The log of a service of ours, as it is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any


async def entries(stream: asyncio.StreamReader | None) -> AsyncIterator[dict[str, Any]]:
    """Each line as what it says, until the process ends; one that is no JSON object as ``{"event": "text"}``."""
    assert stream is not None
    async for line in stream:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        text = line.decode(errors="replace").rstrip()
        yield entry if isinstance(entry, dict) else {"event": "text", "text": text}
