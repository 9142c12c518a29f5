"""linphone, the second independent stack: its offer has packetization-mode 0 and no rtcp-fb unless told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from testing.ports import free_port, free_ports
from tests.peers.peers import require
from tests.sip.test_baresip import running
from tests.support.sip_fake import Recorder
from tests.support.waiting import until

pytestmark = [pytest.mark.peer("linphonec", "xvfb-run"), pytest.mark.slow, pytest.mark.process]

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
automatically_initiate=1
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
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        await self.process.stdin.drain()


@asynccontextmanager
async def linphone(folder: Path, *options: str) -> AsyncIterator[Linphone]:
    require("linphonec", "linphone-cli mediastreamer2-plugin-openh264")
    xvfb = require("xvfb-run", "xvfb xauth")
    (folder / ".local" / "share" / "linphone").mkdir(parents=True)
    (folder / ".asoundrc").write_text("pcm.!default { type null }\nctl.!default { type null }\n")
    port, rtp = free_port(), free_ports(4)
    (folder / "rc").write_text(SETTINGS.format(port=port, tcp=0, rtp=rtp, video=rtp + 2))
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


async def test_linphone_calls(tmp_path: Path) -> None:
    async with running() as (stack, handler), linphone(tmp_path) as phone:
        await phone.say(f"call sip:anna@127.0.0.1:{stack.addresses['UDP'][0][1]}")
        await until(lambda: ("established", "anna") in handler.events, 20)
        (call,) = handler.calls
        assert call.media and call.media.audio and call.media.video
        assert call.media.video.packetization_mode == 0
        assert call.media.audio.voip_metrics
        await phone.say("pause")
        await until(lambda: handler.media and handler.media[-1].on_hold, 20)
        await until(lambda: b"is now paused" in phone.log.read_bytes(), 20)  # only then it can resume
        await phone.say("resume")
        await until(lambda: not handler.media[-1].on_hold, 20)
        await phone.say("terminate")
        await until(lambda: not stack.calls, 20)
        assert handler.cause.by == "peer"


async def test_we_call_linphone_and_hang_up(tmp_path: Path) -> None:
    async with running() as (stack, handler), linphone(tmp_path, "-a") as phone:
        assert isinstance(handler, Recorder)
        call = stack.dial(f"sip:lin@127.0.0.1:{phone.port};transport=udp", handler.caps)
        await until(lambda: call.state == "established", 20)
        assert call.media and call.media.audio
        await asyncio.sleep(0.5)
        call.hangup()
        await until(lambda: not stack.calls)
        await until(lambda: b"ended" in phone.log.read_bytes().lower(), 20)
