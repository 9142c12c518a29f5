"""An inference server of one's own: a process on loopback ports that ends with its owner."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from visavis.errors import InvalidRequest, ServerUnavailable
from visavis.roomkit.background import shared_background
from visavis.service.security import fleet_file

_STOP_S = 10.0
_RUN = """
import runpy, signal
from visavis.service.child import end_with_parent
end_with_parent(signal.SIGTERM)
runpy.run_module("inference_server", run_name="__main__")
"""
"""Even where its owner is killed; what is to run before a program is not safe among an application's threads."""


class LocalServer:
    """``python -m inference_server`` with this engine; needs ``visavis[inference]`` in the same environment."""

    def __init__(self, engine: str, engine_settings: Mapping[str, object], **settings: object) -> None:
        values: dict[str, object] = {
            "host": "127.0.0.1",
            "port": 0,
            "http": "false",
            "tokens": fleet_file(),
            "engine": engine,
            "engine_settings": json.dumps({k: str(v) for k, v in engine_settings.items()}),
            **settings,
        }
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("VISAVIS_INFERENCE_")}
        self._environment |= {f"VISAVIS_INFERENCE_{k.upper()}": str(v) for k, v in values.items()}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._news = threading.Condition()
        self._ready = False
        self._failure = ""
        self._last: deque[str] = deque(maxlen=20)
        self.address = ""

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self, within_s: float) -> str:
        """Returns its address when the engine is loaded.

        Raises :class:`InvalidRequest` with the engine's own sentence where it cannot be loaded, and
        :class:`ServerUnavailable` where that takes longer than ``within_s`` seconds.
        """
        # The kernel looks at the thread that starts it: this one lives as long as the application.
        await shared_background().run(self._begin())
        try:
            await asyncio.to_thread(self._wait, within_s)
        except BaseException:
            await self.stop()
            raise
        return self.address

    async def _begin(self) -> None:
        self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            [sys.executable, "-c", _RUN],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._kill)
        self._reader = threading.Thread(target=self._read, name="visavis-local-server", daemon=True)
        self._reader.start()

    async def stop(self) -> None:
        """End the process and wait for it."""
        process, self._process = self._process, None
        atexit.unregister(self._kill)
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        if self._reader is not None:
            await asyncio.to_thread(self._reader.join, _STOP_S)
        assert process.stderr is not None
        process.stderr.close()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _wait(self, within_s: float) -> None:
        with self._news:
            done = self._news.wait_for(lambda: self._ready or self._failure, within_s)
        if self._failure:
            raise InvalidRequest(self._failure)
        if not done:
            raise ServerUnavailable(f"the engine was not loaded within {within_s:g} s")

    def _read(self) -> None:
        process = self._process
        assert process is not None and process.stderr is not None
        for line in process.stderr:
            try:
                entry: dict[str, Any] = json.loads(line)
                event = entry["event"]
            except (ValueError, TypeError, KeyError):
                self._last.append(line.strip())
                continue
            with self._news:
                if event == "listening":
                    self.address = f"127.0.0.1:{entry['grpc_port']}"
                elif event == "engine_ready":
                    self._ready = True
                elif event in ("engine_refused", "engine_down") and not self._ready:
                    self._failure = str(entry["reason"])
                self._news.notify_all()
        with self._news:
            self._failure = self._failure or " ".join(self._last)[-500:] or "the inference server ended"
            self._news.notify_all()
