"""baresip as the caller: an independent SIP, RTP and H.264 stack, driven over its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ports import free_port, free_ports
from tests.support.peers import require

_MODULES = (
    "g711.so", "g722.so", "opus.so", "sndfile.so", "ausine.so", "aufile.so", "aubridge.so", "avcodec.so",
    "snapshot.so", "swscale.so", "avformat.so", "fakevideo.so", "rtcpsummary.so", "srtp.so",
)  # fmt: skip


def _test_picture(ffmpeg: str, path: Path) -> None:
    look = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "10"]
    code = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    command = [ffmpeg, "-v", "error", *look, *code, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@dataclass
class Baresip:
    """A running baresip; ``folder`` holds its snapshots and recordings."""

    process: asyncio.subprocess.Process
    folder: Path
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sip_port: int
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def command(self, name: str, parameters: str = "") -> str:
        """What baresip answers to a command."""
        data = json.dumps({"command": name, "params": parameters, "token": "t"}).encode()
        self.writer.write(str(len(data)).encode() + b":" + data + b",")
        answer = await asyncio.wait_for(self.answers.get(), 10)
        return re.sub(r"\x1b\[[0-9;]*m", "", str(answer.get("data", "")))

    async def wait(self, event: str, within_s: float = 20.0) -> dict[str, Any]:
        """Until baresip reports an event of this type."""
        async with asyncio.timeout(within_s):
            while True:
                for seen in self.events:
                    if seen.get("type") == event:
                        return seen
                await asyncio.sleep(0.05)

    async def follow(self) -> None:
        """Read netstrings until the socket closes."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int((await self.reader.readuntil(b":"))[:-1])
                message = json.loads((await self.reader.readexactly(size + 1))[:-1])
                if message.get("event"):
                    self.events.append(message)
                elif message.get("response"):
                    self.answers.put_nowait(message)

    async def snapshot(self) -> Path:
        """A picture of what is shown now."""
        path = self.folder / f"shot{len(list(self.folder.glob('shot*.png')))}.png"
        await self.command("snapshot_recv", str(path))
        async with asyncio.timeout(10):
            while not path.exists() or path.stat().st_size == 0:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        return path

    @property
    def heard(self) -> Path:
        """The recording of the far end's voice."""
        return next((self.folder / "rec").glob("dump-*-dec.wav"))


@contextlib.asynccontextmanager
async def baresip(
    folder: Path, codecs: str = "PCMU/8000/1", answer: str = "manual", media_encryption: str = ""
) -> AsyncIterator[Baresip]:
    """A phone with a moving test picture and a 440 Hz tone of its own.

    ``answer="auto"``: it picks up; ``media_encryption`` as its account has it.
    """
    program = require("baresip", "baresip-core baresip-ffmpeg")
    ffmpeg = require("ffmpeg", "ffmpeg")
    (folder / "rec").mkdir(parents=True)
    source = folder / "src.mp4"
    await asyncio.to_thread(_test_picture, ffmpeg, source)
    sip, control, rtp = free_port(), free_port(), free_ports(100)
    lines = {
        "poll_method": "epoll",
        "sip_listen": f"127.0.0.1:{sip}",
        "net_interface": "127.0.0.1",
        "audio_source": "ausine,440",
        "ausrc_srate": "48000",
        "ausrc_channels": "2",
        "audio_player": "aubridge,far",
        "audio_alert": "aufile,/dev/null",
        "video_source": f"avformat,{source}",
        "video_display": "fakevideo,nil",
        "video_size": "320x240",
        "video_bitrate": "300000",
        "video_fps": "25.00",
        "videnc_format": "yuv420p",
        "rtp_ports": f"{rtp}-{rtp + 99}",
        "rtp_stats": "yes",
        "jitter_buffer_delay": "5-10",
        "ctrl_tcp_listen": f"127.0.0.1:{control}",
        "snd_path": str(folder / "rec"),
        "avcodec_h264enc": "libx264",
        "avcodec_h264dec": "h264",
        "statmode_default": "off",
        "module_path": "/usr/lib/baresip/modules",
    }
    text = "".join(f"{name}\t{value}\n" for name, value in lines.items())
    text += "".join(f"module\t{name}\n" for name in _MODULES)
    text += "module_tmp\tuuid.so\nmodule_tmp\taccount.so\nmodule_app\tctrl_tcp.so\nmodule_app\tmenu.so\n"
    (folder / "config").write_text(text)
    (folder / "contacts").touch()
    (folder / "accounts").write_text(
        f"<sip:alice@127.0.0.1:{sip}>;regint=0;audio_codecs={codecs};answermode={answer}"
        + (f";mediaenc={media_encryption}\n" if media_encryption else "\n")
    )
    process = await asyncio.create_subprocess_exec(
        *(program, "-f", str(folder)),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    follower: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", control)
                    break
                except OSError:
                    await asyncio.sleep(0.1)
        phone = Baresip(process, folder, reader, writer, sip)
        follower = asyncio.create_task(phone.follow())
        yield phone
        writer.close()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
        if follower is not None:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
