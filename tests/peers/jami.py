"""Jami's daemon with a SIP account: PJSIP's signalling, FFmpeg's RTP and H.264, driven over D-Bus."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from testing.ports import free_port
from tests.peers.peers import require
from tests.peers.pulse import Sound, end


@dataclass
class Jami:
    """A running daemon; ``account`` is its own name of its only account, ``folder`` holds its recordings."""

    environment: dict[str, str]
    folder: Path
    port: int
    account: str = ""

    async def ask(self, manager: str, method: str, *arguments: str) -> str:
        """Call a method; arguments and what comes back are GVariant text."""
        process = await asyncio.create_subprocess_exec(
            *("gdbus", "call", "--session", "--timeout=30", "--dest", "cx.ring.Ring"),
            *("--object-path", f"/cx/ring/Ring/{manager}", "--method", f"cx.ring.Ring.{manager}.{method}"),
            *arguments,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(35):
            told, error = await process.communicate()
        if process.returncode:
            raise OSError(error.decode())
        return told.decode().strip()

    async def call(self, uri: str) -> str:
        """Call somebody with voice and picture; the call's id."""
        media = [
            f"{{'MEDIA_TYPE': 'MEDIA_TYPE_{kind}', 'ENABLED': 'true', 'MUTED': 'false', 'SOURCE': '',"
            f" 'LABEL': '{kind.lower()}_0'}}"
            for kind in ("AUDIO", "VIDEO")
        ]
        told = await self.ask("CallManager", "placeCallWithMedia", self.account, uri, f"[{', '.join(media)}]")
        return _name(told)

    async def record(self, call: str) -> None:
        """Begin or end to record a call."""
        await self.ask("CallManager", "toggleRecording", self.account, call)

    async def hang_up(self, call: str) -> None:
        """End a call."""
        await self.ask("CallManager", "hangUp", self.account, call)


def _name(told: str) -> str:
    found = re.search(r"'([^']+)'", told)
    assert found, told
    return found[1]


@asynccontextmanager
async def jami(sound: Sound) -> AsyncIterator[Jami]:
    """With a bus, and ports, of its own."""
    program, daemon = require("jamid", "jami-daemon"), require("dbus-daemon", "dbus")
    folder = Path(sound.environment["HOME"])
    (folder / "rec").mkdir()
    bus = f"unix:path={folder}/bus"
    environment = {
        **sound.environment,
        "DBUS_SESSION_BUS_ADDRESS": bus,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    phone = Jami(environment, folder, free_port())
    async with contextlib.AsyncExitStack() as stack:
        with (folder / "jami.log").open("wb") as log:
            for command in (
                [daemon, "--session", "--nofork", "--nopidfile", f"--address={bus}"],
                [program, "-p", "-c", "-d"],
            ):
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                )
                stack.push_async_callback(end, process)
                await asyncio.sleep(0.5)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    await phone.ask("ConfigurationManager", "getAccountList")
                    break
                await asyncio.sleep(0.3)
        details = {
            "Account.type": "SIP", "Account.alias": "visavis", "Account.username": "jami",
            "Account.hostname": "", "Account.localPort": str(phone.port),
            "Account.localInterface": "default", "Account.videoEnabled": "true",
            "Account.upnpEnabled": "false", "STUN.enable": "false", "TURN.enable": "false",
            "TLS.enable": "false", "Account.enable": "true",
        }  # fmt: skip
        told = ", ".join(f"'{name}': '{value}'" for name, value in details.items())
        phone.account = _name(await phone.ask("ConfigurationManager", "addAccount", f"{{{told}}}"))
        await phone.ask("VideoManager", "setDecodingAccelerated", "false")
        await phone.ask("ConfigurationManager", "setRecordPath", str(folder / "rec"))
        yield phone
