"""A portrait or a video to a body loop, in a process of its own: it can hurt nobody but this process.

It is sent one :class:`MakeBody`, and answers with :class:`Progress`, and at last with one of the others. Before
it looks at the file it enters a sandbox: no file but those of ``out_dir``, no socket, no other process, an empty
environment, bounded memory. Only an engine's own body maker is left out of it, since it may need more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inference_server.avatars.arrays import write_body
from inference_server.avatars.loop import face_mesh, make_loop
from inference_server.avatars.portrait import cast
from inference_server.avatars.portrait.framing import Fit
from inference_server.avatars.portrait.image import ImageLimits, load_image
from inference_server.avatars.video import VideoClip, VideoLimits
from inference_server.avatars.video_loop import make_video_loop
from inference_server.engines.base import BodyLoop, ImageRejected
from visavis.service.child import Program, parent_socket
from visavis.service.ipc import Codec
from visavis.service.sandbox import bound_memory, enter

MEMORY_LIMIT = 2 << 30


@dataclass(frozen=True, slots=True)
class MakeBody:
    """What to make, out of ``file``: a picture's, or a video's. ``own_body``: by the engine's own maker."""

    body_id: str
    width: int
    height: int
    fps: Fraction
    fit: Fit
    video: bool
    image_bytes: int
    image_pixels: int
    video_bytes: int
    video_s: float
    own_body: bool
    engine: str
    engine_settings: dict[str, str]
    out_dir: str
    file: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How much is done, 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Made:
    """``out_dir`` holds the body; ``lacking``: parts of the sandbox that this kernel does not have."""

    lacking: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why the file cannot be made into one: a sentence for whoever sent it."""

    sentence: str


@dataclass(frozen=True, slots=True)
class NotWritten:
    """``out_dir`` cannot take the body: why."""

    reason: str


Message = MakeBody | Progress | Made | Rejected | NotWritten
codec = Codec[Message](MakeBody, Progress, Made, Rejected, NotWritten)
PROGRAM = Program(
    "body maker",
    "inference_server.avatars.body_worker",
    codec,
    environment={
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ},
        "OPENBLAS_NUM_THREADS": "1",  # its threads would begin before the sandbox
    },
)


def make(request: MakeBody, file: bytes) -> Iterator[float | BodyLoop]:
    """Steps of the preparation. Raises :class:`ImageRejected`."""
    fps = request.fps
    shape: dict[str, Any] = {
        "body_id": request.body_id,
        "width": request.width,
        "height": request.height,
        "fps": fps,
    }
    least = 1 if request.own_body else 80
    clip: VideoClip | None = None
    if request.video:
        clip = VideoClip(file, fps, VideoLimits(request.video_bytes, min_side=least, max_s=request.video_s))
        picture = next(iter(clip))
    else:
        picture = load_image(file, ImageLimits(request.image_bytes, request.image_pixels, least))
    if request.own_body:
        from inference_server.engines.discovery import engine_factory

        engine = engine_factory(request.engine)(request.engine_settings)
        maker: Any = engine
        yield from maker.make_body(picture, **shape)
    elif clip is not None:
        yield from make_video_loop(clip, fit=request.fit, **shape)
    else:
        yield from make_loop(picture, fit=request.fit, **shape)


def main() -> int:
    """Entry of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    channel = parent_socket(parser.parse_args().channel)
    with contextlib.suppress(OSError):
        os.nice(15)
    lacking: list[str] = []

    def say(message: Message) -> None:
        channel.sendall(codec.encode(message))

    try:
        decoder = codec.decoder()
        while (request := next(decoder, None)) is None:
            data = channel.recv(1 << 20)
            if not data:
                return 1
            decoder.feed(data)
        assert isinstance(request, MakeBody)
        bound_memory(MEMORY_LIMIT)
        file = Path(request.file).read_bytes()
        if not request.own_body:
            cv2.setNumThreads(1)  # those that it starts now would stay outside
            face_mesh(), cast.faces()  # they are files
            os.environ.clear()
            lacking = enter(
                Path(request.out_dir), [Path(str(module.__file__)).parent for module in (os, np, cv2)]
            )
            cv2.setNumThreads(-1)
        for step in make(request, file):
            if isinstance(step, BodyLoop):
                try:
                    write_body(Path(request.out_dir), step)
                except OSError as error:
                    say(NotWritten(error.strerror or str(error)))
                else:
                    say(Made(lacking))
            else:
                say(Progress(float(step)))
    except ImageRejected as error:
        say(Rejected(str(error)))
    except MemoryError:
        say(Rejected("The picture needs too much memory to decode: upload a smaller one."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
