"""Twinkle's console: an independent SIP and RTP stack for voice, driven over its standard input.

It reads a few packets of PulseAudio's microphone and no more: it is heard but briefly, its keys never leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from testing.ports import free_port, free_ports
from tests.peers.peers import require
from tests.peers.pulse import Sound, end
from tests.support.waiting import until

_SYSTEM = """dev_ringtone=alsa:default
dev_speaker=alsa:default
dev_mic=alsa:default
sip_port={port}
rtp_port={rtp}
validate_audio_dev=no
"""
_PROFILE = """user_name=tw
user_domain=127.0.0.1
register_at_startup=no
codecs={codec}
sip_transport=udp
"""


@dataclass
class Twinkle:
    """A running one; ``log`` is what it wrote on its console."""

    process: asyncio.subprocess.Process
    port: int
    log: Path

    def say(self, command: str) -> None:
        """Type a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")

    async def told(self, text: str, times: int = 1) -> None:
        """Until it has written so."""
        await until(lambda: self.log.read_text(errors="replace").count(text) >= times)


@asynccontextmanager
async def twinkle(sound: Sound, codec: str) -> AsyncIterator[Twinkle]:
    """``codec`` as its profile spells it: g711a, g711u, speex-wb, ilbc..."""
    program = require("twinkle-console", "twinkle-console")
    folder = Path(sound.environment["HOME"]) / ".twinkle"
    folder.mkdir()
    port = free_port()
    (folder / "twinkle.sys").write_text(_SYSTEM.format(port=port, rtp=free_ports(20)))
    (folder / "vis.cfg").write_text(_PROFILE.format(codec=codec))
    path = folder / "console"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, "vis.cfg", env=sound.environment, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
        )
    phone = Twinkle(process, port, path)
    try:
        await phone.told("Twinkle>")
        yield phone
        phone.say("quit")
    finally:
        await end(process)
