"""A portrait or a video to a body loop, in a process of its own: it can hurt nobody but this process.

Standard input: one JSON line (the request), then the file's bytes. Standard output: JSON lines with progress,
and at last ``done`` or ``rejected`` with one sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from inference_server.avatars.arrays import write_body
from inference_server.avatars.portrait.image import ImageLimits, load_image
from inference_server.avatars.video import Clip, VideoLimits
from inference_server.engine.worker import die_with_parent
from inference_server.engines.base import BodyLoop, ImageRejected

MEMORY_LIMIT = 6 << 30


def make(request: dict[str, Any], file: bytes) -> Iterator[float | BodyLoop]:
    """Steps of the preparation. Raises :class:`ImageRejected`."""
    fps = Fraction(*request["fps"])
    shape = {"width": request["width"], "height": request["height"], "fps": fps}
    least = 1 if request["own_body"] else 80
    clip: Clip | None = None
    if request["video"]:
        clip = Clip(file, fps, VideoLimits(request["video_bytes"], min_side=least, max_s=request["video_s"]))
        picture = next(iter(clip))
    else:
        picture = load_image(file, ImageLimits(request["image_bytes"], request["image_pixels"], least))
    if request["own_body"]:
        from inference_server.engines.discovery import engine_factory

        engine = engine_factory(request["engine"])(request["engine_settings"])
        maker: Any = engine
        yield from maker.make_body(picture, body_id=request["body_id"], **shape)
    elif clip is not None:
        from inference_server.avatars.video_loop import make_video_loop

        yield from make_video_loop(clip, body_id=request["body_id"], fit=request["fit"], **shape)
    else:
        from inference_server.avatars.loop import make_loop

        yield from make_loop(picture, body_id=request["body_id"], fit=request["fit"], **shape)


def main() -> int:
    """Entry of the process."""
    die_with_parent()
    with contextlib.suppress(OSError):
        os.nice(15)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    request = json.loads(sys.stdin.buffer.readline())
    file = sys.stdin.buffer.read()
    try:
        for step in make(request, file):
            if isinstance(step, BodyLoop):
                write_body(Path(request["out_dir"]), step)
                _say({"done": True})
            else:
                _say({"progress": float(step)})
    except ImageRejected as error:
        _say({"rejected": str(error)})
    except MemoryError:
        _say({"rejected": "The picture needs too much memory to decode: upload a smaller one."})
    return 0


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
