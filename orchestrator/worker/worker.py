"""A media worker: ``python -m orchestrator.worker.worker --channel N`` holds the media of some calls.

It runs the clock, the sockets, the encoders and the owners of its calls, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.media.clock import Lateness
from orchestrator.worker.calls import CallTable
from orchestrator.worker.host import MediaHost
from orchestrator.worker.messages import (
    Heartbeat,
    Message,
    Setup,
    Shutdown,
    TaskFailed,
    ToFactory,
    WorkerReady,
    codec,
)
from orchestrator.worker.owner import CallFactory, WorkerContext, load_factory
from visavis.service.channel import Channel, ChannelClosed
from visavis.service.child import parent_socket
from visavis.service.logs import Log, configure_logging

log = Log(__name__)

_HEARTBEAT_SECONDS = 1.0
_NICE = -10
_GRACE_SECONDS = 5.0
"""For the BYE of the calls whose control process is gone."""
_FIGURES_EVERY = 5
_M_MMAP_THRESHOLD = -3
_ENCODER_PIECE = 512 << 10
"""Smaller than what libx264 asks for at once for a picture of 512x512, larger than such a picture."""
_STALE_BYTES = 1 << 20
"""With this much unsent, figures and callers' voices are left out until the control process reads again."""


class Worker:
    """Serves one channel until it closes."""

    def __init__(self, channel: Channel[Message], setup: Setup) -> None:
        self._channel = channel
        self._setup = setup
        self._host = MediaHost(setup.host)
        self._host.supervisor.on_failure = self._tell_failure
        self._factory: CallFactory | None = load_factory(setup.factory) if setup.factory else None
        self._calls = CallTable(self._host, self._factory, self._send, self._congested)

    async def run(self) -> None:
        """Until ``Shutdown``, or until the control process is gone; every call is then ended with BYE."""
        self._host.supervisor.oversee()
        self._host.start()
        if self._factory is not None:
            await self._factory.start(WorkerContext(self._host, self._send, self._setup.avatar))
        gc.collect()
        gc.freeze()
        self._send(WorkerReady(os.getpid()))
        heart = self._host.supervisor.keep("heartbeat", self._beat)
        try:
            while True:
                message = await self._channel.receive()
                if isinstance(message, Shutdown):
                    break
                self._take(message)
                # Messages that came together are taken one at a time, the clock's slots between them.
                await asyncio.sleep(0)
        except ChannelClosed:
            pass
        finally:
            heart.cancel()
            await self._calls.close()
            if self._factory is not None:
                await self._factory.close()
            await self._host.close()

    def _take(self, message: Message) -> None:
        try:
            if isinstance(message, ToFactory):
                if self._factory is not None:
                    self._factory.take(message)
            else:
                self._calls.take(message)
        except Exception:
            # A fault in one call's owner must not end the others' calls.
            log.exception("message_failed", kind=type(message).__name__)

    def _send(self, message: Message) -> None:
        with contextlib.suppress(ChannelClosed):
            self._channel.send(message)

    def _congested(self) -> bool:
        return self._channel.unsent >= _STALE_BYTES

    def _tell_failure(self, task: str, reason: str) -> None:
        self._send(TaskFailed(task, reason))

    async def _beat(self) -> None:
        beats = 0
        while True:
            lateness: Lateness = self._host.last_second
            if not self._congested():
                pool, load = self._host.encoders, self._host.load
                self._send(
                    Heartbeat(
                        len(self._calls),
                        self._host.ports.in_use,
                        load.overloaded,
                        load.encoders,
                        load.divider,
                        lateness.quantile(0.5),
                        lateness.quantile(0.99),
                        lateness.worst,
                        1000 * pool.busy_seconds / pool.encoded if pool.encoded else 0.0,
                        self._host.last_second_video.quantile(0.99),
                    )
                )
                if beats % _FIGURES_EVERY == 0:
                    self._calls.report(time.monotonic())
            beats += 1
            await asyncio.sleep(_HEARTBEAT_SECONDS)


async def serve(sock: socket.socket) -> None:
    """Take the first message, which must be ``Setup``, and run."""
    channel = await Channel.over(sock, codec)
    try:
        first = await channel.receive()
    except ChannelClosed:
        return
    if not isinstance(first, Setup):
        raise SystemExit("a media worker is started by the orchestrator, which sends its set-up first")
    configure_logging(first.log_level)
    await Worker(channel, first).run()
    channel.close()


def tune_process() -> None:
    """Let the clock's thread come first: among our own threads, and among processes where that is allowed.

    The memory of encoders that rest goes back to the system, which the C library would otherwise keep.
    """
    sys.setswitchinterval(0.0005)
    with contextlib.suppress(AttributeError):  # not the GNU library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _ENCODER_PIECE)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def lead_session() -> None:
    """Take the process into a session of its own, ahead of the others where that is allowed.

    Where no control groups do it, Linux shares the processors out by session first (sched(7), autogroups):
    a nice value counts among the processes of one session only.
    """
    with contextlib.suppress(PermissionError):  # leads its group already
        os.setsid()
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_NICE))


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channel", type=int, required=True, help="inherited socket to the control process")
    arguments = parser.parse_args()
    sock = parent_socket(arguments.channel, grace_s=_GRACE_SECONDS)
    configure_logging()
    lead_session()
    tune_process()
    runner: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        runner = uvloop.run
    runner(serve(sock))


if __name__ == "__main__":
    main()
