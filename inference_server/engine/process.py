"""The engine process seen from the front: started, watched, and started again with back-off."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Mapping

from inference_server.engine import messages as m
from inference_server.engine.frame_ring import FrameRing
from inference_server.engines.base import Device
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child, ChildLost, KeptChild, Program
from visavis.service.logs import Log
from visavis.service.supervisor import BackOff, Supervisor

LANES = 2  # batches under way at once: one is drawn while the next one is on its way
RING_BYTES = 64 << 20
BACK_OFF_S = (0.2, 10.0, 30.0)  # first and longest pause; a process that lived this long starts it afresh


class EngineProcess:
    """Keeps one engine process running. Messages go to ``on_message``, and ``on_read`` is called after those that
    came together; its coming and going is told to ``on_change``.

    ``on_change(loaded, sentence)``: the engine is loaded, or (``None``) not usable, and why.
    ``device``: what it draws on; without a name what the engine chooses.
    ``on_hopeless``: it can never load as things are, and why; it is tried again until somebody closes this.
    """

    def __init__(
        self,
        engine: str,
        settings: Mapping[str, str],
        *,
        device: Device = Device(""),  # noqa: B008 - it cannot be changed
        silent_s: float,
        log: Log,
        on_message: Callable[[m.Message], None],
        on_read: Callable[[], None],
        on_change: Callable[[m.Loaded | None, str], None],
        on_hopeless: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.loaded: m.Loaded | None = None
        self.reason = "the engine is starting"
        self.ring = FrameRing.create(RING_BYTES, LANES)
        self._engine = engine
        self._log = log
        self._on_message = on_message
        self._on_change = on_change
        self._on_hopeless = on_hopeless
        self._supervisor = Supervisor()
        self._settings = dict(settings)
        self._silent_s = silent_s
        self._pings = itertools.count(1)
        self._process = KeptChild(
            self._program(device),
            BackOff(*BACK_OFF_S),
            on_start=self._started,
            on_message=self._take,
            on_read=on_read,
            on_end=self._ended,
        )

    def bind(self, device: Device) -> None:
        """Draw on this device alone from the next process on."""
        self._process.use(self._program(device))

    def _program(self, device: Device) -> Program[m.Message]:
        self._log = self._log.bind(device=device.name) if device.name else self._log
        return Program(
            "engine",
            "inference_server.engine.worker",
            m.codec,
            hello=m.Loaded,
            arguments=(
                *("--engine", self._engine),
                *("--settings", json.dumps({**self._settings, **device.settings})),
                *("--ring", str(self.ring.fd)),
                *("--ring-size", str(RING_BYTES)),
                *("--lanes", str(LANES)),
            ),
            descriptors=(self.ring.fd,),
            # products here are small: BLAS threads only wait for each other, for seconds on a busy machine
            environment={
                "OPENBLAS_NUM_THREADS": "1",
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                **device.environment,
            },
            silence_s=self._silent_s,
            ping=lambda: m.Ping(next(self._pings)),
        )

    def start(self) -> None:
        """Begin to keep the process running."""
        self._process.start(self._supervisor)

    async def close(self) -> None:
        """End the process for good."""
        self.loaded = None
        await self._process.close()
        self.ring.close()

    def send(self, message: m.Message) -> None:
        """Send to the engine; what is sent while it is down is lost, as the engine's state is."""
        with contextlib.suppress(ChannelClosed):
            self._process.send(message)

    def _started(self, child: Child[m.Message]) -> None:
        self.ring.reset(LANES)
        self._log.info("engine_started", engine=self._engine, engine_pid=child.pid)

    def _take(self, message: m.Message) -> None:
        match message:
            case m.Loaded():
                self.loaded, self.reason = message, ""
                self._on_change(message, "")
            case m.Loading():
                self.reason = f"the engine is loading: {message.sentence}"
                self._log.info("engine_loading", progress=round(message.progress, 3), what=message.sentence)
            case m.Failed(what="load" | "engine"):
                if message.kind == m.HOPELESS:
                    self._on_hopeless(message.sentence)
                raise ChildLost(message.sentence)
            case _:
                self._on_message(message)

    def _ended(self, reason: str, pause: float) -> None:
        self.loaded, self.reason = None, reason
        self._log.error("engine_down", reason=reason, again_in_s=pause)
        self._on_change(None, reason)
