"""The engine process seen from the front: started, watched, and started again with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping

from inference_server.engine import messages as m
from inference_server.engine.frame_ring import FrameRing
from visavis.service.logs import Log

LANES = 2  # batches under way at once: one is drawn while the next one is on its way
RING_BYTES = 64 << 20
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
HEALTHY_S = 30.0  # a process that lived this long starts the back-off afresh
PING_S = 1.0


class EngineProcess:
    """Keeps one engine process running. Messages go to ``on_message``, and ``on_read`` is called after those that
    came together; its coming and going is told to ``on_change``.

    ``on_change(loaded, sentence)``: the engine is loaded, or (``None``) not usable, and why.
    """

    def __init__(
        self,
        engine: str,
        settings: Mapping[str, str],
        *,
        silent_s: float,
        log: Log,
        on_message: Callable[[m.Message], None],
        on_read: Callable[[], None],
        on_change: Callable[[m.Loaded | None, str], None],
    ) -> None:
        self.loaded: m.Loaded | None = None
        self.reason = "the engine is starting"
        self.ring = FrameRing.create(RING_BYTES, LANES)
        self._engine = engine
        self._settings = dict(settings)
        self._silent_s = silent_s
        self._log = log
        self._on_message = on_message
        self._on_read = on_read
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._heard = 0.0

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Begin to keep the process running."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End the process for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.ring.close()

    def send(self, message: m.Message) -> None:
        """Send to the engine; what is sent while it is down is lost, as the engine's state is."""
        if self._writer is not None:
            self._writer.write(m.encode(message))

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                sentence = await self._run()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                sentence = f"the engine process could not be run: {type(error).__name__}: {error}"
            if time.monotonic() - began > HEALTHY_S:
                failures = 0
            pause = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
            failures += 1
            self._log.error("engine_down", reason=sentence, again_in_s=pause)
            await asyncio.sleep(pause)

    async def _run(self) -> str:
        """One life of the process; returns why it ended."""
        ours, theirs = socket.socketpair()
        self.ring.reset(LANES)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "inference_server.engine.worker",
            *("--engine", self._engine),
            *("--settings", json.dumps(self._settings)),
            *("--channel", str(theirs.fileno())),
            *("--ring", str(self.ring.fd)),
            *("--ring-size", str(RING_BYTES)),
            *("--lanes", str(LANES)),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), self.ring.fd),
            # products here are small: BLAS threads only wait for each other, for seconds on a busy machine
            env={"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONUNBUFFERED": "1"},
        )
        theirs.close()
        self._process = process
        self._log.info("engine_started", engine=self._engine, engine_pid=process.pid)
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        self._writer = writer
        self._heard = time.monotonic()
        watch = asyncio.create_task(self._watch(process))
        sentence = ""
        try:
            sentence = await self._read(reader)
        finally:
            watch.cancel()
            self._writer = None
            self.loaded = None
            writer.close()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
            self._process = None
            if not sentence:
                sentence = f"the engine process ended with code {process.returncode}"
            self.reason = sentence
            self._on_change(None, sentence)
        return sentence

    async def _read(self, reader: asyncio.StreamReader) -> str:
        decoder = m.Decoder()
        while data := await self._next(reader):
            self._heard = time.monotonic()
            for message in decoder.feed(data):
                match message:
                    case m.Loaded():
                        self.loaded, self.reason = message, ""
                        self._on_change(message, "")
                    case m.Loading():
                        self.reason = f"the engine is loading: {message.sentence}"
                        self._log.info(
                            "engine_loading", progress=round(message.progress, 3), what=message.sentence
                        )
                    case m.Failed(what="load" | "engine"):
                        return message.sentence
                    case _:
                        self._on_message(message)
            self._on_read()
        return ""

    @staticmethod
    async def _next(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(1 << 20)
        except ConnectionError:
            return b""

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill a process that is loaded and answers nothing any more."""
        number = 0
        while True:
            await asyncio.sleep(PING_S)
            if self.loaded is None:
                continue
            silent = time.monotonic() - self._heard
            if silent > self._silent_s:
                self._log.error("engine_silent", seconds=round(silent, 1), engine_pid=process.pid)
                process.kill()
                return
            number += 1
            self.send(m.Ping(number))
