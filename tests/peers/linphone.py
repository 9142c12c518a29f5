"""linphone, headless under Xvfb: an independent SIP, RTP and H.264 stack, driven over its standard input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from testing.ports import free_port, free_ports
from tests.peers.peers import require
from tests.support.waiting import until

SETTINGS = """[sip]
sip_port={port}
sip_tcp_port={tcp}
sip_tls_port=0
bind_address=127.0.0.1
use_ipv6=0
ipv6_migration_done=1
guess_hostname=0
contact=sip:lin@127.0.0.1:{port}
media_encryption=none
default_proxy=-1
register_only_when_network_is_up=0
[rtp]
audio_rtp_port={rtp}
video_rtp_port={video}
bind_address=127.0.0.1
[video]
enabled=1
capture=1
display=1
automatically_initiate={initiate}
automatically_accept=1
size=vga
device=StaticImage: Static picture
show_local=0
"""


class Linphone:
    """linphonec under Xvfb, driven by its standard input."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    async def say(self, command: str) -> None:
        """Type a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        await self.process.stdin.drain()

    async def snapshot(self) -> Path:
        """A picture of what is shown now."""
        folder = self.log.parent
        path = folder / f"shot{len(list(folder.glob('shot*.jpg')))}.jpg"
        await self.say(f"snapshot {path}")
        await until(lambda: path.exists() and path.stat().st_size > 0, 20)
        await asyncio.sleep(0.2)
        return path


@asynccontextmanager
async def linphone(folder: Path, *options: str, camera: bool = True) -> AsyncIterator[Linphone]:
    """linphone with a still picture and files for sound; without ``camera`` its calls begin as voice calls."""
    require("linphonec", "linphone-cli mediastreamer2-plugin-openh264")
    xvfb = require("xvfb-run", "xvfb xauth")
    (folder / ".local" / "share" / "linphone").mkdir(parents=True)
    (folder / ".asoundrc").write_text("pcm.!default { type null }\nctl.!default { type null }\n")
    port, rtp = free_port(), free_ports(4)
    (folder / "rc").write_text(
        SETTINGS.format(port=port, tcp=0, rtp=rtp, video=rtp + 2, initiate=int(camera))
    )
    with (folder / "out").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            xvfb, "-a", "linphonec", "-c", str(folder / "rc"), "-V", *options,
            cwd=folder, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    peer = Linphone(process, port, folder / "out")
    try:
        await until(lambda: b"linphonec>" in peer.log.read_bytes(), 30)
        await peer.say("soundcard use files")
        yield peer
    finally:
        if process.returncode is None:
            await peer.say("quit")
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
