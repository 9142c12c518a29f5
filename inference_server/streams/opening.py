"""What a client asks for when it opens a stream, held against the avatar it names."""

from __future__ import annotations

from inference_server.engines.base import BodyLoop
from inference_server.errors import invalid
from visavis.avatar.v1.contract import FrameScope, Open


def agree(request: Open, body: BodyLoop) -> FrameScope:
    """The scope that frames will have. Raises :class:`RequestError` where the avatar is another one.

    A client whose copy of the body is not this one gets whole pictures.
    """
    width, height = request.width or 0, request.height or 0
    if width % 2 or height % 2:
        raise invalid(f"Open: width and height must be even: try {body.width}x{body.height}.")
    if (width or body.width, height or body.height) != (body.width, body.height):
        raise invalid(
            f"Open: this avatar was prepared at {body.width}x{body.height}, not "
            f"{width}x{height}: open it at that size, or prepare it at the other."
        )
    if request.fps is not None and request.fps != body.fps:
        raise invalid(
            f"Open: this avatar was prepared at {body.fps} frames per second, not {request.fps}: "
            "open it at that rate, or prepare it at the other."
        )
    if request.body_sha256 and request.body_sha256 != body.sha256:
        return "whole"
    return request.scope
