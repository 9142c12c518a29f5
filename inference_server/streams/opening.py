"""What a client asks for when it opens a stream, held against the avatar it names."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from inference_server.engines.base import BodyLoop
from inference_server.errors import invalid
from inference_server.streams.pictures import PixelFormat, Scope


@dataclass(frozen=True)
class OpenRequest:
    """What Open asks for; 0 and "" mean: as prepared."""

    avatar_id: str
    width: int = 0
    height: int = 0
    fps: Fraction | None = None
    pixel_format: PixelFormat = "i420"
    scope: Scope = "rectangle"
    session_id: str = ""
    body_sha256: bytes = b""

    def agree(self, body: BodyLoop) -> Scope:
        """The scope that frames will have. Raises :class:`RequestError` where the avatar is another one.

        A client whose copy of the body is not this one gets whole pictures.
        """
        if self.width % 2 or self.height % 2:
            raise invalid(f"Open: width and height must be even: try {body.width}x{body.height}.")
        if (self.width or body.width, self.height or body.height) != (body.width, body.height):
            raise invalid(
                f"Open: this avatar was prepared at {body.width}x{body.height}, not "
                f"{self.width}x{self.height}: open it at that size, or prepare it at the other."
            )
        if self.fps is not None and self.fps != body.fps:
            raise invalid(
                f"Open: this avatar was prepared at {body.fps} frames per second, not {self.fps}: "
                "open it at that rate, or prepare it at the other."
            )
        if self.body_sha256 and self.body_sha256 != body.sha256:
            return "whole"
        return self.scope
