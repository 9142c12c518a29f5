"""A running orchestrator for tests: a real process on loopback ports of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from testing.ports import free_port, free_ports
from tests.support.credentials import API, api_tokens
from tests.support.log_lines import entries

ROOT = Path(__file__).resolve().parents[2]
START_S = 90.0  # a loaded machine with two cores


def picture(seed: int = 0, size: int = 256) -> bytes:
    """A PNG that the mock engine takes for a portrait; another seed is another avatar."""
    image = np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)
    return bytes(cv2.imencode(".png", image)[1])


def tone(seconds: float, hertz: float = 300.0, rate: int = 16_000) -> NDArray[np.int16]:
    """A steady sound that every frame of the test card answers to."""
    t = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


def speech(seconds: float = 1.0, seed: int = 0) -> NDArray[np.int16]:
    """Voiced-like noise: never silent."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16_000))
    tone = sum(np.sin(2 * np.pi * f * t / 16_000) / n for n, f in enumerate((130, 260, 390, 1900), 1))
    noise = rng.standard_normal(len(t)) * (0.2 + 0.2 * np.sin(2 * np.pi * 4 * t / 16_000))
    return (3000 * (tone + noise)).astype(np.int16)


def wav_header(rate: int = 16_000) -> bytes:
    """Of a mono 16-bit WAV whose length is not told."""
    fmt = b"fmt " + (16).to_bytes(4, "little") + (1).to_bytes(2, "little") + (1).to_bytes(2, "little")
    fmt += rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little") + b"\2\0\x10\0"
    return b"RIFF\xff\xff\xff\xffWAVE" + fmt + b"data\xff\xff\xff\xff"


@dataclass
class House:
    """``uri`` is what phones dial, ``api`` a client of the control API, ``log`` every log line so far."""

    process: asyncio.subprocess.Process
    sip_port: int
    api: httpx.AsyncClient
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """The default avatar's."""
        return f"sip:demo@127.0.0.1:{self.sip_port}"

    async def ready(self, within_s: float = START_S) -> None:
        """Until calls get a talking face."""
        await self._until(within_s, "talking_face")

    async def answering(self, within_s: float = START_S) -> list[str]:
        """Until calls are answered at all; returns what is still missing for a talking face."""
        return await self._until(within_s, "takes_calls")

    async def status(self) -> Any:
        """Everything that ``GET /v1/status`` tells."""
        return (await self.api.get("/v1/status")).raise_for_status().json()

    async def _until(self, within_s: float, field: str) -> list[str]:
        deadline = time.monotonic() + within_s
        missing: list[str] = ["the API does not answer"]
        while time.monotonic() < deadline:
            if self.process.returncode is not None:
                raise RuntimeError(f"the orchestrator ended: {self.log[-5:]}")
            with contextlib.suppress(httpx.TransportError):
                status = await self.status()
                missing = status["missing"]
                if status[field]:
                    return missing
            await asyncio.sleep(0.1)
        raise TimeoutError(f"not ready: {missing}; {self.log[-5:]}")

    async def call_id(self, index: int = -1) -> str:
        """Of a call under way."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            calls = [c for c in (await self.api.get("/v1/calls")).json() if c["ended_at"] is None]
            if calls:
                return str(calls[index]["call_id"])
            await asyncio.sleep(0.02)
        raise TimeoutError("there is no call")

    async def call(self, call_id: str) -> dict[str, Any]:
        """One call as the API shows it."""
        answer: dict[str, Any] = (await self.api.get(f"/v1/calls/{call_id}")).json()
        return answer

    async def idle_cached(self, call_id: str, within_s: float = 60.0) -> None:
        """Until the call's idle pictures come from the cached loop."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if (await self.call(call_id))["media"].get("pictures_cached", 0) > 0:
                return
            await asyncio.sleep(0.1)
        raise TimeoutError("the idle loop is not cached")

    async def play(
        self, call_id: str, pieces: Sequence[tuple[float, NDArray[np.int16]]], *, rate: int = 16_000
    ) -> int:
        """Stream sound into a call, each piece after so many seconds; returns the turn's id."""

        async def body() -> AsyncIterator[bytes]:
            yield wav_header(rate)
            for wait, samples in pieces:
                await asyncio.sleep(wait)
                yield samples.tobytes()

        answer = await self.api.post(f"/v1/calls/{call_id}/play", content=body())
        assert answer.status_code == 202, answer.text
        return int(answer.json()["turn_id"])

    async def turn(self, call_id: str, turn_id: int, within_s: float = 60.0) -> dict[str, Any]:
        """A turn when it is over."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            turns: list[dict[str, Any]] = (await self.call(call_id))["turns"]
            turn = next(turn for turn in turns if turn["turn_id"] == turn_id)
            if turn["state"] in ("finished", "interrupted", "failed"):
                return turn
            await asyncio.sleep(0.05)
        raise TimeoutError(f"turn {turn_id} is not over after {within_s} s")

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Every event from now on, as it comes."""
        heard: list[dict[str, Any]] = []
        async with self.api.stream("GET", "/v1/events") as stream:
            lines = stream.aiter_lines()
            await anext(lines)  # connected

            async def listen() -> None:
                async for line in lines:
                    if line.startswith("data: "):
                        heard.append(json.loads(line.removeprefix("data: ")))

            task = asyncio.create_task(listen())
            try:
                yield heard
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def follow(self) -> None:
        """Read the log until the process ends."""
        async for entry in entries(self.process.stderr):
            self.log.append(entry)

    async def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, then wait; returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), within_s)


@contextlib.asynccontextmanager
async def orchestrator(
    servers: Sequence[str] | str,
    *,
    wait: bool = True,
    portrait: bytes | None = None,
    code: Path = ROOT,
    **settings: object,
) -> AsyncIterator[House]:
    """An orchestrator with these inference servers; ``wait``: until it is ready. Settings as in its config.

    ``code`` is the checkout that is run.
    """
    sip_port, api_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="visavis-test-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        image = folder / "portrait.png"
        image.write_bytes(portrait if portrait is not None else picture())
        low = free_ports(400)
        api_tokens(folder / "data")
        values: dict[str, object] = {
            "sip_host": "127.0.0.1",
            "sip_port": sip_port,
            "api_port": api_port,
            "rtp_port_min": low,
            "rtp_port_max": low + 399,
            "avatar_servers": servers if isinstance(servers, str) else ",".join(servers),
            "avatar_image": image,
            "greeting": "",
            "data_dir": folder / "data",
            "cache_dir": folder / "cache",
            **settings,
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith("VISAVIS_")}
        environment |= {f"VISAVIS_{key.upper()}": str(value) for key, value in values.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestrator"),
            env=environment,
            cwd=code,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        scheme = "https" if settings.get("api_tls_certificate") else "http"
        host = str(settings.get("api_host", "127.0.0.1"))
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{api_port}"
        async with httpx.AsyncClient(base_url=url, timeout=60, headers=API, verify=False) as api:
            house = House(process, sip_port, api)
            follower = asyncio.create_task(house.follow())
            try:
                if wait:
                    await house.ready()
                yield house
            finally:
                if process.returncode is None:
                    try:
                        await house.stop(15)
                    except TimeoutError:
                        process.kill()
                        await process.wait()
                await follower
