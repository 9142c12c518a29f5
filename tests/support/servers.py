"""Inference servers for tests: real processes on loopback ports of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.log_lines import entries

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0  # a loaded machine with two cores


@dataclass
class InferenceServer:
    """A running server: ``address`` for gRPC, ``http_port`` for metrics, its process and its log."""

    process: asyncio.subprocess.Process
    cache_dir: Path
    address: str = ""
    http_port: int = 0
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=5000))
    follower: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int:
        """Of the front process."""
        return self.process.pid

    @property
    def engine_pid(self) -> int:
        """Of the newest engine process."""
        return int(
            next(line["engine_pid"] for line in reversed(self.log) if line["event"] == "engine_started")
        )

    async def event(self, name: str, within_s: float = START_S, count: int = 1) -> dict[str, Any]:
        """Wait until the log has ``count`` lines of this event; returns the last of them."""
        async with asyncio.timeout(within_s):
            while True:
                found = [line for line in self.log if line["event"] == name]
                if len(found) >= count:
                    return found[-1]
                if self.process.returncode is not None:
                    raise RuntimeError(
                        f"the server ended with {self.process.returncode}: {list(self.log)[-5:]}"
                    )
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.5)

    async def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, then wait; returns the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), within_s)

    def kill(self) -> None:
        """SIGKILL the front process (its engine process dies with it)."""
        if self.process.returncode is None:
            self.process.kill()

    async def follow(self) -> None:
        """Read the log until the process ends."""
        async for entry in entries(self.process.stderr):
            self.log.append(entry)
            self._news.set()


async def start_inference_server(
    *,
    engine: str = "mock",
    engine_settings: dict[str, Any] | None = None,
    cache_dir: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: bool = True,
    code: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> InferenceServer:
    """Start ``python -m inference_server``; see :func:`inference_server`. The caller stops it."""
    own_cache = cache_dir or Path(tempfile.mkdtemp(prefix="visavis-test-"))
    values: dict[str, Any] = {
        "host": host,
        "port": port,
        "http_host": host,
        "http_port": 0,
        "engine": engine,
        "engine_settings": json.dumps({k: str(v) for k, v in (engine_settings or {}).items()}),
        "cache_dir": own_cache,
        "drain_s": 5,
        "log_level": "debug",
        **settings,
    }
    env = {k: v for k, v in os.environ.items() if not k.startswith("VISAVIS_")}
    env.update({f"VISAVIS_INFERENCE_{name.upper()}": str(value) for name, value in values.items()})
    env.update(environ or {})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inference_server"),
        env=env,
        cwd=code,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    server = InferenceServer(process, own_cache)
    server.follower = asyncio.create_task(server.follow())
    try:
        listening = await server.event("listening")
        server.address = f"{host}:{listening['grpc_port']}"
        server.http_port = listening["http_port"] or 0
        if ready:
            await server.event("engine_ready")
    except BaseException:
        server.kill()
        raise
    return server


@contextlib.asynccontextmanager
async def inference_server(engine: str = "mock", **settings: Any) -> AsyncIterator[str]:
    """A ready inference server for the time of the block; yields its gRPC address, ``127.0.0.1:PORT``.

    ``async with inference_server(engine="mock", engine_settings={"cost_ms_row": 1}, slots=4) as address:``

    Keyword arguments are settings of ``inference_server/settings.py`` (``window_ms=200``, ``slots=1``...), and
    ``engine_settings`` (values become text), ``cache_dir`` (default: a folder of its own, removed afterwards),
    ``host`` (``127.0.0.2``...), ``port`` (default: a free one), ``code`` (the checkout that is run),
    ``environ`` (further variables) and ``ready=False`` (do not wait for the engine).
    Raises ``RuntimeError`` with the end of the server's log where it does not start.
    Use :func:`running_server` for the process, its log and its pids.
    """
    async with running_server(engine=engine, **settings) as server:
        yield server.address


@contextlib.asynccontextmanager
async def running_server(**settings: Any) -> AsyncIterator[InferenceServer]:
    """As :func:`inference_server`, but yields the :class:`InferenceServer`."""
    temporary = (
        contextlib.nullcontext()
        if "cache_dir" in settings
        else tempfile.TemporaryDirectory(prefix="visavis-test-", ignore_cleanup_errors=True)
    )
    with temporary as folder:
        if folder is not None:
            settings["cache_dir"] = Path(folder)
        server = await start_inference_server(**settings)
        try:
            yield server
        finally:
            server.kill()
            await server.process.wait()
            if server.follower is not None:
                await server.follower
