"""Processes of ours: started with a socket, watched, ended, and started again where they are to be there always.

The child's end of it is :func:`parent_socket`, or all of :func:`run_child`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from visavis.service.channel import Channel, ChannelClosed
from visavis.service.ipc import BadFrame, Codec
from visavis.service.logs import configure_logging
from visavis.service.supervisor import BackOff, Supervisor

M = TypeVar("M")

BEAT_S = 1.0
_EXIT_S = 1.0
"""A process that has closed its channel is given this long to say how it ended."""
_PR_SET_PDEATHSIG = 1


class ChildLost(ChannelClosed):
    """A process has ended, or was given up: one sentence."""


@dataclass(frozen=True)
class Program(Generic[M]):
    """What to run, ``python -m module arguments --channel FD``, and when to lose patience with it.

    ``start_s``: until its first message of class ``hello``; ``silence_s``: between messages after that; ``stop_s``:
    from the message that ends it to its exit. ``None`` waits for as long as it lives. ``ping`` makes what it is
    sent each second after its hello, so that it has something to answer. ``environment`` replaces our own.
    ``own_session``: it leads a session of its own. Either way a terminal's Ctrl-C is for us alone, who end it.
    """

    name: str
    module: str
    codec: Codec[M]
    hello: type[Any] | None = None
    arguments: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] | None = None
    own_session: bool = False
    start_s: float | None = None
    silence_s: float | None = None
    stop_s: float = 5.0
    ping: Callable[[], M] | None = None


class Silence:
    """Whether a process has said nothing for too long; without a clock of its own."""

    def __init__(self, program: Program[Any], now: float) -> None:
        self._program = program
        self._heard = now
        self.greeted = program.hello is None

    def heard(self, message: object, now: float) -> None:
        """It has said something."""
        if self.greeted:
            self._heard = now
        elif isinstance(message, self._program.hello or object):
            self.greeted, self._heard = True, now

    def verdict(self, now: float) -> str:
        """A sentence where patience is at its end, "" before."""
        patience = self._program.silence_s if self.greeted else self._program.start_s
        if patience is None or now - self._heard <= patience:
            return ""
        what = "said nothing" if self.greeted else "was not ready"
        return f"the {self._program.name} {what} for {patience:g} s"


class Child(Generic[M]):
    """One life of a process."""

    def __init__(self, program: Program[M]) -> None:
        self._program = program
        self._silence = Silence(program, time.monotonic())
        self._channel: Channel[M] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._given_up = ""
        self._over = False

    @property
    def pid(self) -> int | None:
        """The process, once there is one."""
        return self._process.pid if self._process else None

    @property
    def greeted(self) -> bool:
        """Whether it is there and has said that it is ready."""
        return self._silence.greeted and self._process is not None and not self._over

    async def start(self) -> None:
        """Start it; raises ``OSError``."""
        program = self._program
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", program.module, *program.arguments),
                    *("--channel", str(theirs.fileno())),
                    pass_fds=(theirs.fileno(), *program.descriptors),
                    stdin=asyncio.subprocess.DEVNULL,
                    env=program.environment,
                    start_new_session=program.own_session,
                    process_group=None if program.own_session else 0,
                )
            ours.setblocking(False)
            self._channel = await Channel.over(ours, program.codec)
        except BaseException:
            ours.close()
            raise
        self._silence = Silence(program, time.monotonic())
        self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._look)

    def send(self, message: M) -> None:
        """Queue a message; raises ``ChannelClosed``."""
        if self._channel is None:
            raise ChannelClosed(f"the {self._program.name} has not started")
        self._channel.send(message)

    def at_hand(self) -> M | None:
        """The next message, where it has come already."""
        assert self._channel is not None
        message = self._channel.at_hand()
        if message is not None:
            self._silence.heard(message, time.monotonic())
        return message

    async def receive(self) -> M:
        """The next message; raises :class:`ChildLost` where there will be none, with the reason."""
        assert self._channel is not None
        try:
            message = await self._channel.receive()
        except ChannelClosed as error:
            raise ChildLost(await self._reason(error)) from error
        self._silence.heard(message, time.monotonic())
        return message

    def abort(self) -> None:
        """End it by force, without waiting; ``receive`` ends, too."""
        self._over = True
        if self._channel is not None:
            self._channel.abort()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, last: M | None = None) -> None:
        """End it: with ``last``, which asks it to exit, where there is one, and by force where it does not."""
        if self._beat is not None:
            self._beat.cancel()
        if self._channel is not None and last is not None:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(last)
            await self._exit(self._program.stop_s)
        self.abort()
        await self._exit(None)

    async def _exit(self, within_s: float | None) -> None:
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._process.wait()

    def _look(self) -> None:
        assert self._channel is not None
        self._given_up = self._silence.verdict(time.monotonic())
        if self._given_up:
            self.abort()
            return
        if self._program.ping is not None and self._silence.greeted:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(self._program.ping())
        self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._look)

    async def _reason(self, error: ChannelClosed) -> str:
        await self._exit(_EXIT_S)
        code = self._process.returncode if self._process else None
        if self._given_up or code is None or isinstance(error.__cause__, BadFrame):
            return self._given_up or f"the {self._program.name}: {error}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"the {self._program.name} process {how}"


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A kept process; ``off``: it was not wanted yet; ``reason``: why the one before it ended."""

    name: str
    state: Literal["off", "starting", "ready"]
    pid: int | None
    restarts: int
    reason: str


class KeptChild(Generic[M]):
    """A process that is to be there always: whenever it ends, another one is started, after a pause.

    ``on_start`` is told of each new one; what it sends is the first that the process gets. Messages go to
    ``on_message``, and ``on_read`` is called after those that came together; either may raise :class:`ChildLost` to
    give the process up. ``on_end`` is told why it is gone, and the pause in seconds.
    """

    def __init__(
        self,
        program: Program[M],
        back_off: BackOff,
        *,
        on_message: Callable[[M], None],
        on_end: Callable[[str, float], None],
        on_start: Callable[[Child[M]], None] = lambda child: None,
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        self._program = program
        self._back_off = back_off
        self._on_start, self._on_message = on_start, on_message
        self._on_read, self._on_end = on_read, on_end
        self._child: Child[M] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._restarts = 0
        self._reason = ""

    @property
    def pid(self) -> int | None:
        """The newest process."""
        return self._child.pid if self._child is not None else None

    @property
    def state(self) -> ProcessState:
        """As it is told."""
        greeted = self._child is not None and self._child.greeted
        state: Literal["off", "starting", "ready"] = (
            "off" if self._task is None else "ready" if greeted else "starting"
        )
        return ProcessState(self._program.name, state, self.pid, self._restarts, self._reason)

    def start(self, supervisor: Supervisor) -> None:
        """Begin to keep it."""
        self._task = supervisor.keep(self._program.name, self._keep)

    def use(self, program: Program[M]) -> None:
        """Run this from the next start on."""
        self._program = program

    def send(self, message: M) -> None:
        """Queue a message; raises ``ChannelClosed`` while there is no process."""
        if self._child is None:
            raise ChannelClosed(f"there is no {self._program.name} now")
        self._child.send(message)

    async def close(self, last: M | None = None) -> None:
        """End it for good, with a last message that asks it to exit, or at once."""
        self._closing = True
        if self._child is not None and last is not None:
            await self._child.end(last)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._child is not None:
            await self._child.end()

    async def _keep(self) -> None:
        while not self._closing:
            child = self._child = Child(self._program)
            began = time.monotonic()
            reason = f"a mistake of ours has ended the {self._program.name}"
            try:
                reason = await self._live(child)
            finally:
                pause = self._back_off.pause(time.monotonic() - began)
                child.abort()
                if not self._closing:
                    self._reason = reason
                    self._on_end(reason, pause)
                await child.end()
            await asyncio.sleep(pause)
            self._restarts += 1
        await asyncio.Event().wait()  # a supervisor starts again what returns

    async def _live(self, child: Child[M]) -> str:
        try:
            await child.start()
            self._on_start(child)
            while True:
                message: M | None = await child.receive()
                while message is not None:
                    self._on_message(message)
                    message = child.at_hand()
                self._on_read()
        except ChannelClosed as error:
            return str(error)
        except OSError as error:
            return f"the {self._program.name} could not be started: {error}"


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this signal when the thread that started this process ends (Linux, prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def parent_socket(descriptor: int, *, grace_s: float = 0.0) -> socket.socket:
    """In a child: the socket to the process that started it. Call it first, in the main thread.

    Ctrl-C and SIGTERM, which reach every process of a terminal or of a service, are the parent's to answer. This
    process ends with its parent: at once, or after ``grace_s`` seconds, in which it sees the end of the socket and
    puts things in order.
    """
    parent = os.getppid()

    def orphaned(*_: object) -> None:
        if os.getppid() != parent:
            signal.setitimer(signal.ITIMER_REAL, grace_s)  # whose signal ends a process that hangs, too

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, orphaned if grace_s else signal.SIG_IGN)
    end_with_parent(signal.SIGTERM if grace_s else signal.SIGKILL)
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def run_child(
    description: str, codec: Codec[M], serve: Callable[[Channel[M]], Awaitable[None]], nice: int
) -> None:
    """The whole of a child that talks over its channel alone: ``python -m module --channel FD``.

    ``serve`` runs until it has nothing more to do, ``nice`` below others.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--channel", type=int, required=True, help="inherited socket to the control process")
    sock = parent_socket(parser.parse_args().channel)
    configure_logging()
    os.nice(nice)

    async def over() -> None:
        channel = await Channel.over(sock, codec)
        await serve(channel)
        channel.close()

    asyncio.run(over())
