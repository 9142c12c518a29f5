"""baresip, headless, driven over its control socket: a tone and a test picture in, nothing shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from bench.ports import free_port, free_ports
from tests.support.peers import require

CONFIG = """poll_method epoll
sip_listen 127.0.0.1:{sip}
net_interface 127.0.0.1
call_local_timeout 120
call_max_calls 4
audio_source ausine,440
ausrc_srate 48000
ausrc_channels 2
audio_player aubridge,far
audio_alert aubridge,alert
audio_buffer 20-160
video_source fakevideo,nil
video_display fakevideo,nil
video_size 320x240
video_bitrate 300000
video_fps 15.00
videnc_format yuv420p
rtp_ports {rtp}-{rtp_end}
rtcp_mux no
module_path /usr/lib/baresip/modules
module opus.so
module g722.so
module g711.so
module ausine.so
module aubridge.so
module avcodec.so
module fakevideo.so
module_tmp uuid.so
module_tmp account.so
module_app ctrl_tcp.so
module_app menu.so
ctrl_tcp_listen 127.0.0.1:{control}
avcodec_h264enc libx264
avcodec_h264dec h264
statmode_default off
"""


class Baresip:
    """One baresip.

    `account` is appended to its account line, such as `;answermode=auto`, `settings` to its configuration.
    """

    def __init__(self, folder: Path, *, account: str = "", settings: str = "") -> None:
        self.binary = require("baresip", "baresip-core baresip-ffmpeg")
        self.folder = folder
        self.port = free_port()
        self.control = free_port()
        rtp = free_ports(100)
        folder.mkdir(parents=True, exist_ok=True)
        values = {"sip": self.port, "control": self.control, "rtp": rtp, "rtp_end": rtp + 99}
        (folder / "config").write_text(CONFIG.format(**values) + settings)
        (folder / "accounts").write_text(f"<sip:alice@127.0.0.1:{self.port}>;regint=0{account}\n")
        (folder / "contacts").write_text("")
        self.events: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Baresip:
        log = (self.folder / "log").open("wb")
        self._process = await asyncio.create_subprocess_exec(
            self.binary, "-f", str(self.folder), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        for _ in range(200):
            try:
                reader, self._writer = await asyncio.open_connection("127.0.0.1", self.control)
                break
            except OSError:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError(f"baresip did not start: {(self.folder / 'log').read_text()[-2000:]}")
        self._reader = asyncio.create_task(self._read(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._process is not None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def command(self, command: str, params: str = "") -> dict[str, Any]:
        assert self._writer is not None
        data = json.dumps({"command": command, "params": params, "token": "t"}).encode()
        self._writer.write(b"%d:%s," % (len(data), data))
        return await asyncio.wait_for(self._answers.get(), 10)

    async def wait_for(self, kind: str, seconds: float = 10.0) -> dict[str, Any]:
        for _ in range(int(seconds / 0.05)):
            for event in self.events:
                if event.get("type") == kind:
                    return event
            await asyncio.sleep(0.05)
        seen = [event.get("type") for event in self.events]
        raise AssertionError(
            f"no {kind} from baresip, only {seen}: {(self.folder / 'log').read_text()[-2000:]}"
        )

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            length = await reader.readuntil(b":")
            message = json.loads(await reader.readexactly(int(length[:-1])))
            await reader.readexactly(1)
            if message.get("event"):
                self.events.append(message)
            else:
                self._answers.put_nowait(message)
