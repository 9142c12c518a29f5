"""Inference servers as pods have them: an address each, one name that lists those that are ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from testing.nameserver import NameServer
from visavis.client.avatar_client import AvatarClient
from visavis.client.model import Capacity
from visavis.errors import VisavisError

READY_S = 120.0
NOTICED_S = 1.0
"""How long the name goes on listing a server that died without a word."""
_NICE = 10  # the servers stand for other machines


@dataclass
class Server:
    """One server process; ``most_used`` slots were taken at once since :meth:`Fleet.forget`."""

    process: asyncio.subprocess.Process
    watch: asyncio.Task[None]
    capacity: Capacity | None = None
    most_used: int = 0


@dataclass
class Fleet:
    """Server processes by address in 127.0.0.0/8, the newest the highest, and the name server that lists them."""

    directory: Path
    port: int
    slots: int
    names: NameServer
    drain_s: float = 5.0
    servers: dict[str, Server] = field(default_factory=dict)
    started: int = 0
    beyond: int = 0  # times that more slots were taken than there are
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> str:
        """One more server at a new address; returns that when its engine is ready and the name lists it."""
        self.started += 1
        host = f"127.0.1.{self.started}"
        settings = {
            "host": host,
            "port": self.port,
            "http": "false",
            "engine": "mock",
            "slots": self.slots,
            "drain_s": self.drain_s,
            "cache_dir": self.directory / host,
        }
        env = {k: v for k, v in os.environ.items() if not k.startswith("VISAVIS_")}
        env |= {f"VISAVIS_INFERENCE_{k.upper()}": str(v) for k, v in settings.items()}
        nice = shutil.which("nice")
        process = await asyncio.create_subprocess_exec(
            *([nice, "-n", str(_NICE)] if nice else []),
            *(sys.executable, "-m", "inference_server"),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # as on a machine of its own: Linux shares processors out by session first
        )
        self.servers[host] = Server(process, asyncio.create_task(self._watch(host)))
        assert process.stderr is not None
        async with asyncio.timeout(READY_S):
            async for line in process.stderr:
                if b'"engine_ready"' in line:
                    break
            else:
                raise RuntimeError(f"the server at {host} did not start")
        self._tasks.append(asyncio.create_task(_drain(process.stderr)))
        self.names.addresses.add(host)
        return host

    async def kill(self, host: str) -> None:
        """SIGKILL, as when its node is lost: the name lists it for a while."""
        server = self.servers.pop(host)
        server.process.kill()
        server.watch.cancel()
        await server.process.wait()
        await asyncio.sleep(NOTICED_S)
        self.names.addresses.discard(host)

    async def drain(self, host: str) -> None:
        """SIGTERM, and out of the name at once; returns when it has gone."""
        server = self.servers[host]
        self.names.addresses.discard(host)
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(self.drain_s + 15):
            await server.process.wait()
        server.watch.cancel()
        del self.servers[host]

    def freeze(self, host: str, frozen: bool) -> None:
        """SIGSTOP or SIGCONT for the server's front."""
        self.servers[host].process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def forget(self) -> None:
        """Count the slots anew."""
        for server in self.servers.values():
            server.most_used = 0

    def sessions(self) -> list[int]:
        """Conversations by server, oldest server first."""
        return [s.capacity.sessions for s in self.servers.values() if s.capacity is not None]

    async def close(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        for server in self.servers.values():
            server.watch.cancel()
            with contextlib.suppress(ProcessLookupError):
                server.process.send_signal(signal.SIGCONT)
                server.process.kill()
            await server.process.wait()

    async def _watch(self, host: str) -> None:
        async with AvatarClient(f"{host}:{self.port}") as client:
            while True:
                with contextlib.suppress(VisavisError):
                    async for capacity in client.watch_capacity():
                        server = self.servers[host]
                        server.capacity = capacity
                        used = (
                            0 if capacity.draining else capacity.speaking_slots - capacity.speaking_slots_free
                        )
                        server.most_used = max(server.most_used, used)
                        self.beyond += used > self.slots
                await asyncio.sleep(0.2)


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass
