"""How often a conversation takes another version's body of its portrait."""

from __future__ import annotations

import asyncio

AGAIN_S = 20.0
"""Not more often, where a conversation comes to servers of two versions by turns."""


class ReplacementPace:
    """Lets a conversation's first replacement pass at once, and each other one a while after the one before."""

    def __init__(self) -> None:
        self._after = 0.0

    async def wait(self) -> None:
        """Until the body may be replaced, which it then is."""
        clock = asyncio.get_running_loop()
        await asyncio.sleep(self._after - clock.time())
        self._after = clock.time() + AGAIN_S
