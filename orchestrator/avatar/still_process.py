"""The portrait as one still picture, decoded in a process of its own: what was uploaded can hurt nobody but that.

It is sent one :class:`MakeStill`, enters a sandbox (no file, no socket, no other process, an empty environment,
bounded memory) before it looks at the picture, and answers with :class:`StillMade`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from orchestrator.avatar.still import fit, grey_body
from orchestrator.media.sources import StillBody
from visavis.service.child import parent_socket
from visavis.service.ipc import BadMessage, Codec
from visavis.service.logs import Log
from visavis.service.sandbox import bound_memory, enter

log = Log(__name__)

MEMORY_LIMIT = 1 << 30
PATIENCE_S = 60.0
SANDBOX_HINT = (
    "this kernel lacks it, so that portraits are decoded with less around them: Linux 5.13 has both"
)


@dataclass(frozen=True, slots=True)
class MakeStill:
    """The size of the picture that is wanted, in pixels, and the portrait's file in ``payload``."""

    width: int
    height: int
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StillMade:
    """I420 in ``payload``, nothing where the file holds no picture; ``lacking``: parts of the sandbox."""

    lacking: list[str]
    payload: bytes = field(repr=False)


codec = Codec[MakeStill | StillMade](MakeStill, StillMade)
MODULE = "orchestrator.avatar.still_process"
ENVIRONMENT = {
    **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ},
    "OPENBLAS_NUM_THREADS": "1",  # its threads would begin before the sandbox
}


def still_body(image: bytes, width: int, height: int) -> StillBody:
    """The picture cropped around its upper middle to ``width`` x ``height``; grey where it cannot be had.

    Takes half a second: not for the thread of the media clock.
    """
    try:
        made = _made(MakeStill(width, height, image))
    except (OSError, BadMessage) as error:
        log.warning("portrait_not_decoded", reason=str(error))
        return grey_body(width, height)
    if made.lacking:
        log.warning("sandbox_incomplete", lacking=made.lacking, hint=SANDBOX_HINT)
    if len(made.payload) != width * height * 3 // 2:
        return grey_body(width, height)
    frame = np.frombuffer(made.payload, np.uint8).reshape(1, height * 3 // 2, width)
    return StillBody(f"still-{hashlib.sha256(image).hexdigest()[:16]}-{width}x{height}", frame)


def _made(order: MakeStill) -> StillMade:
    """By a process, which has ended then. Raises ``OSError``, :class:`BadMessage`."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, "--channel", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=ENVIRONMENT,
                process_group=0,
            )
        with process:
            try:
                ours.settimeout(PATIENCE_S)
                ours.sendall(codec.encode(order))
                made = _receive(ours)
            finally:
                process.kill()
    if not isinstance(made, StillMade):
        raise ConnectionError(f"the portrait decoder ended with code {process.returncode}")
    return made


def _receive(sock: socket.socket) -> MakeStill | StillMade | None:
    """The next message, ``None`` at the end."""
    decoder = codec.decoder()
    while (message := next(decoder, None)) is None:
        data = sock.recv(1 << 20)
        if not data:
            return None
        decoder.feed(data)
    return message


def main() -> int:
    """Entry of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    channel = parent_socket(parser.parse_args().channel)
    os.nice(20)
    request = _receive(channel)
    if not isinstance(request, MakeStill):
        return 1
    bound_memory(MEMORY_LIMIT)
    os.environ.clear()
    lacking = enter(None, [Path(str(module.__file__)).parent for module in (os, np, av)])
    frame = fit(request.payload, request.width, request.height)
    channel.sendall(codec.encode(StillMade(lacking, b"" if frame is None else frame.tobytes())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
