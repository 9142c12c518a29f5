"""What the media bench is compared with: bare sockets, and RoomKit's encoder."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TICK = 0.02
_TICKS = 150

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


def bare_sockets(calls: int) -> float:
    """CPU ms per video frame of sending and receiving a call's packets on the same ticks, and nothing else."""
    pairs = []
    for _ in range(calls):
        ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (ours, theirs):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours.connect(theirs.getsockname())
        theirs.connect(ours.getsockname())
        pairs.append((ours, theirs))
    audio, video, inbound = bytes(172), bytes(1100), bytearray(2048)
    used, started = 0.0, time.monotonic()
    for tick in range(_TICKS):
        for _, theirs in pairs:
            theirs.send(audio)
        before = time.process_time()
        for ours, _ in pairs:
            ours.send(audio)
        if tick % 2:
            for ours, _ in pairs:
                ours.send(video)
                ours.send(video)
        for ours, _ in pairs:
            ours.recv_into(inbound)
        used += time.process_time() - before
        time.sleep(max(0.0, started + (tick + 1) * _TICK - time.monotonic()))
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    return 1000 * used / (calls * _TICKS / 2)


def roomkit(python: str, loop: NDArray[np.uint8]) -> str:
    """One line: CPU ms per 512x512 picture of RoomKit's encoder, moving and still."""
    from visavis.frames import i420_to_rgb

    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, np.stack([i420_to_rgb(frame, 512, 512) for frame in loop[:50]]))
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
