"""The portrait as one still picture, decoded in a process of its own: what was uploaded can hurt nobody but that.

It is sent one :class:`MakeStill`, enters a sandbox (no file, no socket, no other process, an empty environment,
bounded memory) before it looks at the picture, and answers with :class:`StillMade`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from orchestrator.avatar.still import fit, grey_body
from orchestrator.media.sources import StillBody
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child, Program, parent_socket
from visavis.service.ipc import Codec
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
PROGRAM = Program(
    "portrait decoder",
    "orchestrator.avatar.still_process",
    codec,
    environment={
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ},
        "OPENBLAS_NUM_THREADS": "1",  # its threads would begin before the sandbox
    },
    silence_s=PATIENCE_S,
)


async def still_body(image: bytes, width: int, height: int) -> StillBody:
    """The picture cropped around its upper middle to ``width`` x ``height``; grey where it cannot be had."""
    decoder = Child(PROGRAM)
    try:
        await decoder.start()
        decoder.send(MakeStill(width, height, image))
        made = await decoder.receive()
    except (ChannelClosed, OSError) as error:
        log.warning("portrait_not_decoded", reason=str(error))
        return grey_body(width, height)
    finally:
        await decoder.end()
    assert isinstance(made, StillMade)
    if made.lacking:
        log.warning("sandbox_incomplete", lacking=made.lacking, hint=SANDBOX_HINT)
    if len(made.payload) != width * height * 3 // 2:
        return grey_body(width, height)
    frame = np.frombuffer(made.payload, np.uint8).reshape(1, height * 3 // 2, width)
    return StillBody(f"still-{hashlib.sha256(image).hexdigest()[:16]}-{width}x{height}", frame)


def main() -> int:
    """Entry of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    channel = parent_socket(parser.parse_args().channel)
    os.nice(20)
    decoder = codec.decoder()
    while (request := next(decoder, None)) is None:
        data = channel.recv(1 << 20)
        if not data:
            return 1
        decoder.feed(data)
    assert isinstance(request, MakeStill)
    bound_memory(MEMORY_LIMIT)
    os.environ.clear()
    lacking = enter(None, [Path(str(module.__file__)).parent for module in (os, np, av)])
    frame = fit(request.payload, request.width, request.height)
    channel.sendall(codec.encode(StillMade(lacking, b"" if frame is None else frame.tobytes())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
