"""What the media bench is compared with: bare sockets, and RoomKit's encoder."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TICK = 0.02
_TICKS, _WARM = 200, 50

_ROOMKIT = """
import sys, time
import numpy as np
from roomkit.video.pipeline.encoder.pyav import PyAVVideoEncoder
from roomkit.video.video_frame import VideoFrame
pictures = np.load(sys.argv[1])
def run(moving):
    encoder = PyAVVideoEncoder(width=512, height=512, fps=25)
    started = None
    for number in range(125):
        if number == 25:
            started = time.process_time()
        picture = pictures[number % len(pictures) if moving else 0]
        frame = VideoFrame(data=picture.tobytes(), codec="raw_rgb24", width=512, height=512)
        encoder.encode(frame)
    return (time.process_time() - started) * 10
print(f"{run(True):.2f} {run(False):.2f}")
"""


def run_bare(pipe: Connection, scenario: Any) -> None:
    """The process that stands in for the host: the packets of idle calls on their ticks, each tick a sleep
    and a wake-up, and nothing else. Reports CPU ms per video frame."""
    phones: list[tuple[int, int]] = pipe.recv()
    pairs = []
    for audio_port, video_port in phones:
        pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for sock, port in zip(pair, (audio_port, video_port), strict=True):
            sock.bind(("127.0.0.1", 0))
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
        pairs.append((pair[0], pair[1]))
    pipe.send([(audio.getsockname()[1], video.getsockname()[1]) for audio, video in pairs])
    sound, picture, inbound = bytes(172), bytes(1100), bytearray(2048)
    started, used = time.monotonic(), 0.0
    for tick in range(_WARM + _TICKS):
        time.sleep(max(0.0, started + tick * _TICK - time.monotonic()))
        if tick == _WARM:
            used = time.process_time()
        for audio, video in pairs:
            _send(audio, sound)
            if tick % 2:
                _send(video, picture)
                _send(video, picture)
            with contextlib.suppress(OSError):
                audio.recv_into(inbound)
    pipe.send({"ms_per_frame": 1000 * (time.process_time() - used) / (len(pairs) * _TICKS / 2)})
    for audio, video in pairs:
        audio.close()
        video.close()


def _send(sock: socket.socket, packet: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.send(packet)


def roomkit(python: str, loop: NDArray[np.uint8]) -> str:
    """One line: CPU ms per 512x512 picture of RoomKit's encoder, moving and still."""
    from visavis.rgb import to_rgb

    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, np.stack([to_rgb(frame, 512, 512) for frame in loop[:50]]))
        script = Path(file.name).with_suffix(".py")
        script.write_text(_ROOMKIT)
        try:
            done = subprocess.run(
                [python, str(script), file.name], capture_output=True, text=True, timeout=300, check=False
            )
        finally:
            script.unlink()
    if done.returncode:
        return f"RoomKit could not be measured: {done.stderr.strip().splitlines()[-1]}"
    moving, still = done.stdout.split()[-2:]
    return f"RoomKit 0.109's PyAVVideoEncoder alone, ms per picture: {moving} moving, {still} still"
