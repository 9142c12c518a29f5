"""baresip, headless: an independent SIP, RTP and H.264 stack, driven over its control socket."""

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

from testing.ports import free_port, free_ports
from tests.peers.peers import require

_MODULES = (
    "g711.so", "g722.so", "opus.so", "ausine.so", "aufile.so", "aubridge.so", "avcodec.so", "fakevideo.so",
    "srtp.so",
)  # fmt: skip
_FILMING = ("sndfile.so", "snapshot.so", "swscale.so", "avformat.so", "rtcpsummary.so")


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
        for _ in range(int(within_s / 0.05)):
            for seen in self.events:
                if seen.get("type") == event:
                    return seen
            await asyncio.sleep(0.05)
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise AssertionError(f"no {event} from baresip, only {[e.get('type') for e in self.events]}: {log}")

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


def _configuration(folder: Path, sip: int, control: int, film: Path | None, sound: Path | None) -> str:
    rtp = free_ports(100)
    lines = {
        "poll_method": "epoll",
        "sip_listen": f"127.0.0.1:{sip}",
        "net_interface": "127.0.0.1",
        "call_local_timeout": "120",
        "call_max_calls": "4",
        "audio_source": f"aufile,{sound}" if sound else "ausine,440",
        "ausrc_srate": "48000",
        "ausrc_channels": "2",
        "audio_player": "aubridge,far",
        "audio_alert": "aufile,/dev/null",
        "video_source": f"avformat,{film}" if film else "fakevideo,nil",
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
    text += "".join(f"module\t{name}\n" for name in _MODULES + (_FILMING if film else ()))
    return (
        text + "module_tmp\tuuid.so\nmodule_tmp\taccount.so\nmodule_app\tctrl_tcp.so\nmodule_app\tmenu.so\n"
    )


@contextlib.asynccontextmanager
async def baresip(
    folder: Path,
    codecs: str = "PCMU/8000/1",
    answer: str = "manual",
    *,
    account: str = "",
    settings: str = "",
    film: bool = True,
    sound: Path | None = None,
) -> AsyncIterator[Baresip]:
    """A phone that plays ``sound`` (a WAV of 48 kHz, stereo), or a 440 Hz tone of its own.

    ``film``: and a moving test picture, snapshots and recordings.

    ``answer="auto"``: it picks up; ``account`` is appended to its account line, such as ``;mediaenc=srtp``,
    ``settings`` to its configuration. TLS is listened for on the port after ``sip_port``.
    """
    program = require("baresip", "baresip-core baresip-ffmpeg")
    (folder / "rec").mkdir(parents=True)
    source = folder / "src.mp4" if film else None
    if source is not None:
        await asyncio.to_thread(_test_picture, require("ffmpeg", "ffmpeg"), source)
    sip, control = free_ports(2), free_port()
    (folder / "config").write_text(_configuration(folder, sip, control, source, sound) + settings)
    (folder / "contacts").touch()
    (folder / "accounts").write_text(
        f"<sip:alice@127.0.0.1:{sip}>;regint=0;audio_codecs={codecs};answermode={answer}{account}\n"
    )
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program, "-f", str(folder)),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    follower: asyncio.Task[None] | None = None
    try:
        reader, writer = await _connect(control, folder / "log")
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


async def _connect(port: int, log: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(200):
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.1)
    raise AssertionError(f"baresip did not start: {log.read_text(errors='replace')[-2000:]}")
