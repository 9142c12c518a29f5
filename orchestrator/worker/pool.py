"""The control process's end: starts media workers, places calls, replaces a worker that dies."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.media.load import BUSY_CLOCK_SECONDS
from orchestrator.media.session import SessionStats
from orchestrator.worker.messages import (
    CallClosed,
    CallFailed,
    CallMessage,
    CallOpened,
    CallRefused,
    CloseCall,
    Heartbeat,
    Message,
    OpenCall,
    OpenVideo,
    Setup,
    Shutdown,
    VideoOpened,
    WorkerReady,
    codec,
)
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child, KeptChild, Program
from visavis.service.logs import Log
from visavis.service.supervisor import BackOff, Supervisor

log = Log(__name__)

START_SECONDS = 60.0
SILENCE_SECONDS = 10.0
ANSWER_SECONDS = 10.0
STUCK_SECONDS = 90.0
_RESTART_SECONDS = (1.0, 10.0, 30.0)
"""First and longest pause before a worker is replaced, and how long one lives that is none that fails again."""
PROGRAM = Program(
    "media worker",
    "orchestrator.worker.worker",
    codec,
    hello=WorkerReady,
    own_session=True,
    start_s=START_SECONDS,
    silence_s=SILENCE_SECONDS,
)


class NoRoom(RuntimeError):
    """No worker can take another call now: answer 503 with what the caller may be told."""

    def __init__(self, text: str, told: str = "full: no more calls at once") -> None:
        super().__init__(text)
        self.told = told


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What each worker is told first, and how many there are; the port range is divided among them."""

    setup: Setup
    workers: int = 1


class MediaWorker:
    """One worker process, whichever it is at the time, and the calls it holds."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.calls: set[str] = set()
        self.health: Heartbeat | None = None
        self.ready = asyncio.Event()
        self.process: KeptChild[Message] | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def has_room(self) -> bool:
        """Alive and not overloaded."""
        return not self.strain

    @property
    def strain(self) -> str:
        """What keeps it from taking calls, as a caller may hear it; "" where nothing does."""
        if not self.ready.is_set():
            return "starting: media is not up yet"
        health = self.health
        if health is None or not health.overloaded:
            return ""
        if health.lateness_p99 > BUSY_CLOCK_SECONDS:
            return "overloaded: the media clock is late"
        return "overloaded: pictures cannot be coded in time"

    def send(self, message: Message) -> None:
        """Raises ``ChannelClosed``."""
        if self.process is None:
            raise ChannelClosed("the media worker has not started")
        self.process.send(message)


class WorkerPool:
    """``on_message`` gets what calls report; a lost worker's calls come as ``CallFailed`` each."""

    def __init__(
        self,
        settings: PoolSettings,
        on_message: Callable[[Message], None],
        supervisor: Supervisor | None = None,
    ) -> None:
        self._settings = settings
        self._on_message = on_message
        self._supervisor = supervisor or Supervisor()
        self.workers: list[MediaWorker] = []
        self._home: dict[str, MediaWorker] = {}
        self._answers: dict[tuple[str, bool], asyncio.Future[Message]] = {}  # of a call, of its video
        self._one_ready = asyncio.Event()
        self._heard_at = 0.0

    @property
    def has_room(self) -> bool:
        """Whether a new call may be taken."""
        return any(worker.has_room for worker in self.workers)

    @property
    def stuck(self) -> str:
        """Why media has been away for longer than a worker takes to start; "" where it is there or may come."""
        away = asyncio.get_running_loop().time() - self._heard_at
        return f"no media worker has been heard for {away:.0f} s: see the log" if away > STUCK_SECONDS else ""

    async def start(self) -> None:
        """Start every worker and wait until one is ready; raises ``NoRoom`` where none comes up."""
        self._heard_at = asyncio.get_running_loop().time()
        self.workers = [MediaWorker(self._setup(index)) for index in range(self._settings.workers)]
        for index, worker in enumerate(self.workers):
            worker.process = KeptChild(
                replace(PROGRAM, name=f"media worker {index}"),
                BackOff(*_RESTART_SECONDS),
                on_start=functools.partial(self._set_up, worker),
                on_message=functools.partial(self._heard, worker),
                on_end=functools.partial(self._lost, worker),
            )
            worker.process.start(self._supervisor)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._one_ready.wait()
                return
        await self.close()
        raise NoRoom("no media worker came up: see its messages above")

    async def close(self) -> None:
        """End every worker; calls end with BYE in RTCP."""
        for worker in self.workers:
            worker.ready.clear()
        await asyncio.gather(*(worker.process.close(Shutdown()) for worker in self.workers if worker.process))

    async def open_call(self, call_id: str, *, video: bool = True, bundle: bool = False) -> CallOpened:
        """Place a call on the least busy worker and open its ports; raises ``NoRoom``."""
        workers = [worker for worker in self.workers if worker.has_room]
        if not workers:
            told = next((worker.strain for worker in self.workers), "starting: media is not up yet")
            raise NoRoom(f"no media worker takes another call now, try again later ({told})", told)
        worker = min(workers, key=lambda each: len(each.calls))
        worker.calls.add(call_id)
        self._home[call_id] = worker
        try:
            answer = await self._ask(OpenCall(call_id, video, bundle))
        except (ChannelClosed, TimeoutError) as error:
            self._forget(call_id)
            raise NoRoom(
                "the media worker did not answer: try again", "overloaded: media does not answer"
            ) from error
        if isinstance(answer, CallOpened):
            return answer
        self._forget(call_id)
        raise NoRoom(answer.reason if isinstance(answer, CallRefused | CallFailed) else "no media worker")

    async def open_video(self, call_id: str) -> int | None:
        """Open the video ports of a call that has none: the port of RTP, ``None`` where there is none to be had.

        One at a time for each call.
        """
        if call_id not in self._home:
            return None
        answer: Message | None = None
        with contextlib.suppress(ChannelClosed, TimeoutError):
            answer = await self._ask(OpenVideo(call_id))
        return answer.port if isinstance(answer, VideoOpened) else None

    def send(self, message: CallMessage) -> None:
        """For a call of this pool; one that is gone is no error."""
        worker = self._home.get(message.call_id)
        if worker is not None:
            with contextlib.suppress(ChannelClosed):
                worker.send(message)

    def broadcast(self, message: Message) -> None:
        """To every worker, for its factory."""
        for worker in self.workers:
            with contextlib.suppress(ChannelClosed):
                worker.send(message)

    async def close_call(self, call_id: str) -> SessionStats | None:
        """End a call; its last figures, ``None`` where it was gone already."""
        if call_id not in self._home:
            return None
        answer: Message | None = None
        with contextlib.suppress(ChannelClosed, TimeoutError):
            answer = await self._ask(CloseCall(call_id))
        self._forget(call_id)
        return answer.stats if isinstance(answer, CallClosed) else None

    async def _ask(self, message: OpenCall | CloseCall | OpenVideo) -> Message:
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        question = message.call_id, isinstance(message, OpenVideo)
        self._answers[question] = future
        try:
            self._home[message.call_id].send(message)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        finally:
            self._answers.pop(question, None)

    def _forget(self, call_id: str) -> None:
        worker = self._home.pop(call_id, None)
        if worker is not None:
            worker.calls.discard(call_id)

    def _set_up(self, worker: MediaWorker, child: Child[Message]) -> None:
        child.send(worker.setup)

    def _heard(self, worker: MediaWorker, message: Message) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if isinstance(message, Heartbeat):
            worker.health = message
        elif isinstance(message, WorkerReady):
            worker.ready.set()
            self._one_ready.set()
        self._take(message)

    def _lost(self, worker: MediaWorker, reason: str, pause: float) -> None:
        log.error("media_worker_lost", pid=worker.pid, reason=reason, again_in_s=pause)
        worker.ready.clear()
        worker.health = None
        for call_id in list(worker.calls):
            self._forget(call_id)
            self._take(CallFailed(call_id, "the media worker of this call has died"))

    def _take(self, message: Message) -> None:
        if isinstance(message, CallOpened | CallRefused | CallClosed | CallFailed | VideoOpened):
            future = self._answers.get((message.call_id, isinstance(message, VideoOpened)))
            if future is not None and not future.done():
                future.set_result(message)
                return
        try:
            self._on_message(message)
        except Exception as error:  # must not end the watch over a worker, and so its other calls
            self._supervisor.failed("messages of media workers", error, running=True)

    def _setup(self, index: int) -> Setup:
        setup, count = self._settings.setup, self._settings.workers
        host = setup.host
        if host.web_port:
            host = replace(host, web_port=host.web_port + index)
            setup = replace(setup, host=host)
        if not host.port_low:
            return setup
        share = (host.port_high - host.port_low) // count // 2 * 2
        low = host.port_low + host.port_low % 2 + index * share
        return replace(setup, host=replace(host, port_low=low, port_high=low + share - 1))
