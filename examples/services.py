"""Both services as processes of an example: started, asked whether calls get a talking face, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import httpx

from visavis.service.child import end_with_parent

STOP_S = 10.0
LATE_S = 20.0
"""An inference server that nobody reaches for so long does not only start."""
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def start(
    module: str, environment: Mapping[str, str] | None = None, log: IO[bytes] | None = None
) -> asyncio.subprocess.Process:
    """``python -m module`` in a session of its own, told to end when this process does, however it ends."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=functools.partial(end_with_parent, signal.SIGTERM),
    )


def terminate(processes: Sequence[asyncio.subprocess.Process]) -> None:
    """Tell them to end, the last started first; told again they do not wait for what is under way."""
    for process in reversed(processes):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()


async def end(process: asyncio.subprocess.Process) -> None:
    """Tell it to end, and wait; one that does not is killed."""
    terminate([process])
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


class Readiness:
    """What still keeps calls from a talking face, for somebody whose own two services are starting."""

    def __init__(self, api: httpx.AsyncClient) -> None:
        self._api = api
        self._begun = time.monotonic()

    async def missing(self) -> list[str]:
        """One sentence each; none left: ready."""
        try:
            answer = await self._api.get("/v1/status")
        except httpx.TransportError:
            return ["the services are starting"]
        if answer.status_code != 200:
            return ["the services are starting"]
        status: dict[str, Any] = answer.json()
        if status["talking_face"]:
            return []
        starts = all(server["state"] == "unreachable" for server in status["servers"])
        if starts and time.monotonic() - self._begun < LATE_S:
            return ["the inference server is starting"]
        return list(status["missing"])
