"""Avatars being prepared in the engine process, in small steps while nothing live is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inference_server.avatars.arrays import Damaged, read_body, write_prepared
from inference_server.engine import messages as m
from inference_server.engines.base import Engine, EngineDead, EngineError, ImageRejected, NoMemory, Prepared

DISK_S = 0.002  # between looks at a write under way


@dataclass(slots=True)
class _Preparation:
    job: int
    steps: Iterator[float | Prepared]
    out_dir: Path
    writing: Future[None] | None = None


class Preparations:
    """One after the other. Raises only :class:`EngineDead`; everything else is told as ``Failed``."""

    def __init__(self, engine: Engine, send: Callable[[m.Message], None]) -> None:
        self._engine = engine
        self._send = send
        self._queue: deque[_Preparation] = deque()
        self._disk = ThreadPoolExecutor(1)  # writing what was prepared may take longer than a step

    @property
    def pause_s(self) -> float | None:
        """How long the process may wait for messages before the next step; ``None``: there is no step."""
        if not self._queue:
            return None
        return 0 if self._queue[0].writing is None else DISK_S

    def add(self, message: m.Prepare) -> None:
        """Begin a preparation."""
        try:
            body = read_body(Path(message.body_dir), verify=False)
            steps = self._engine.prepare(body, message.settings)
        except EngineDead:
            raise
        except Exception as error:
            self._failed(message.job, error)
            return
        self.begin(message.job, steps, Path(message.out_dir))

    def begin(self, job: int, steps: Iterator[float | Prepared], out_dir: Path) -> None:
        """Take the steps of a preparation, after those before it."""
        self._queue.append(_Preparation(job, iter(steps), out_dir))

    def cancel(self, job: int) -> None:
        """Nobody waits for it any more."""
        self._queue = deque(p for p in self._queue if p.job != job)

    def step(self) -> None:
        """One step of the oldest preparation, if there is one."""
        if not self._queue:
            return
        preparation = self._queue[0]
        try:
            if preparation.writing is not None:
                if preparation.writing.done():
                    preparation.writing.result()
                    self._queue.popleft()
                    self._send(m.PrepareStep(preparation.job, 1.0, True))
                return
            step = next(preparation.steps)
            if isinstance(step, Prepared):
                preparation.writing = self._disk.submit(write_prepared, preparation.out_dir, step)
            else:
                self._send(m.PrepareStep(preparation.job, float(step), False))
        except EngineDead:
            raise
        except Exception as error:
            self._queue.popleft()
            self._failed(preparation.job, error)

    def _failed(self, job: int, error: Exception) -> None:
        known = isinstance(error, EngineError | Damaged)
        kind = (
            type(error).__name__ if isinstance(error, ImageRejected | NoMemory | Damaged) else "EngineError"
        )
        sentence = str(error) if known else f"{type(error).__name__}: {error}"
        if isinstance(error, StopIteration):
            sentence = "the engine ended its preparation without a result"
        self._send(m.Failed("prepare", str(job), kind, sentence))
