"""ffmpeg and GStreamer as receivers of RTP: what they decode, as raw grey pictures and 16-bit sound."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from testing.ports import free_ports
from tests.peers.peers import PACKAGES, require

SIZE = (192, 128)


@dataclass
class Receiver:
    """A program that receives audio on ``port`` and video on ``port + 2``."""

    process: asyncio.subprocess.Process
    port: int
    folder: Path

    def pictures(self) -> np.ndarray:
        """What it has decoded so far, shape ``(n, height, width)`` uint8."""
        path = self.folder / "video.raw"
        raw = np.fromfile(path, np.uint8) if path.exists() else np.zeros(0, np.uint8)
        step = SIZE[0] * SIZE[1]
        return raw[: len(raw) // step * step].reshape(-1, SIZE[1], SIZE[0])

    def sound(self) -> np.ndarray:
        """The voice so far, int16 at 8 kHz."""
        path = self.folder / "audio.raw"
        return np.fromfile(path, "<i2") if path.exists() else np.zeros(0, np.int16)


@contextlib.asynccontextmanager
async def _running(command: list[str], port: int, folder: Path) -> AsyncIterator[Receiver]:
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield Receiver(process, port, folder)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


def _is_open(port: int) -> bool:
    """Whether a process of this Linux machine has this UDP port."""
    return any(f":{port:04X} " in table.read_text() for table in Path("/proc/net").glob("udp*"))


def sdp(port: int, mode: int) -> str:
    """What a receiver is told that comes: PCMU and H.264."""
    lines = [
        "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
        f"m=audio {port} RTP/AVP 0", f"m=video {port + 2} RTP/AVP 96", "a=rtpmap:96 H264/90000",
        f"a=fmtp:96 packetization-mode={mode}",
    ]  # fmt: skip
    return "\r\n".join(lines) + "\r\n"


@contextlib.asynccontextmanager
async def ffmpeg(folder: Path, mode: int = 1) -> AsyncIterator[Receiver]:
    """It reads the SDP and shows every picture once, whenever it came."""
    program, port = require("ffmpeg", "ffmpeg"), free_ports(4)
    (folder / "call.sdp").write_text(sdp(port, mode))
    command = [
        program, "-y", "-nostdin", "-v", "warning", "-protocol_whitelist", "file,udp,rtp", "-flags", "low_delay",
        "-i", str(folder / "call.sdp"), "-map", "0:v", "-fps_mode", "passthrough", "-pix_fmt", "gray",
        "-flush_packets", "1", "-f", "rawvideo", str(folder / "video.raw"),
        "-map", "0:a", "-flush_packets", "1", "-f", "s16le", str(folder / "audio.raw"),
    ]  # fmt: skip
    async with _running(command, port, folder) as receiver:
        yield receiver


@contextlib.asynccontextmanager
async def ffmpeg_clip(folder: Path, *, arrival: bool = False) -> AsyncIterator[Receiver]:
    """It reads the SDP and keeps both streams as they come in ``clip.mkv``, whole once this is left.

    Time stamps are ffmpeg's own: RTP's, moved onto one clock by the first sender report of each stream and by
    every later one (``libavformat/rtpdec.c``, ``finalize_packet``), or with ``arrival`` when it read the packet.
    Entered when its ports are open; raises ``TimeoutError`` when they are not within 10 s, or when it does not end.
    """
    program, port = require("ffmpeg", "ffmpeg"), free_ports(4)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "call.sdp").write_text(sdp(port, 1))
    command = [
        program, "-y", "-nostdin", "-v", "info", "-nostats", "-protocol_whitelist", "file,udp,rtp",
        "-use_wallclock_as_timestamps", str(int(arrival)), "-i", str(folder / "call.sdp"),
        "-map", "0", "-c", "copy", str(folder / "clip.mkv"),
    ]  # fmt: skip
    async with _running(command, port, folder) as receiver:
        async with asyncio.timeout(10):
            while not all(map(_is_open, range(port, port + 4))):
                await asyncio.sleep(0.05)
        yield receiver
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as goodbye:  # SIGINT would not end its waiting
            for rtcp in (port + 1, port + 3):
                goodbye.sendto(
                    struct.pack("!BBHIBBHI", 0x80, 201, 1, 0, 0x81, 203, 1, 0), ("127.0.0.1", rtcp)
                )
        async with asyncio.timeout(10):
            await receiver.process.wait()


@contextlib.asynccontextmanager
async def gstreamer(
    folder: Path, feedback: tuple[str, int] | None = None, latency_ms: int = 200
) -> AsyncIterator[Receiver]:
    """rtpbin, with its jitter buffer; with ``feedback``, an address, it sends RTCP about the video there.

    Then it speaks AVPF: NACK for what is missing, PLI for what the decoder cannot do without.
    """
    program, port = require("gst-launch-1.0", PACKAGES["gst-launch-1.0"]), free_ports(4)
    video = "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96"
    audio = "application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0"
    bin_, back = ["rtpbin", "name=b", f"latency={latency_ms}"], []
    if feedback is not None:
        video += ",rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true"
        bin_ += ["do-retransmission=true", "rtp-profile=avpf"]
        host, to = feedback
        back = [
            "b.send_rtcp_src_0",
            "!",
            "udpsink",
            f"host={host}",
            f"port={to}",
            "sync=false",
            "async=false",
        ]
    command = [
        program, "-e", *bin_,
        "udpsrc", f"port={port + 2}", f"caps={video}", "!", "b.recv_rtp_sink_0",
        "udpsrc", f"port={port + 3}", "caps=application/x-rtcp", "!", "b.recv_rtcp_sink_0", *back,
        "b.", "!", "rtph264depay", "request-keyframe=true", "!",
        "avdec_h264", "!", "videoconvert", "!", "video/x-raw,format=GRAY8", "!",
        "filesink", f"location={folder / 'video.raw'}", "buffer-mode=unbuffered", "sync=false",
        "udpsrc", f"port={port}", f"caps={audio}", "!", "rtpjitterbuffer", "latency=100", "!",
        "rtppcmudepay", "!", "mulawdec", "!", "filesink", f"location={folder / 'audio.raw'}",
        "buffer-mode=unbuffered", "sync=false",
    ]  # fmt: skip
    async with _running(command, port, folder) as receiver:
        yield receiver
