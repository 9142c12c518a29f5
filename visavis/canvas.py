"""The former painter of a body; :class:`visavis.playout.compositor.Compositor` took its place."""

from __future__ import annotations

import warnings

from visavis.client.body_cache import Body
from visavis.frames import I420
from visavis.playout.compositor import Compositor
from visavis.playout.picture import Picture


class Canvas:
    """Pictures of one conversation, one after the other; each is a new array."""

    def __init__(self, body: Body) -> None:
        warnings.warn(
            "visavis.canvas.Canvas goes with the next release: use visavis.playout.compositor.Compositor",
            DeprecationWarning,
            stacklevel=2,
        )
        self.body = body
        self._compositor = Compositor()

    def draw(self, picture: Picture) -> I420:
        """``(height * 3 // 2, width)`` uint8."""
        return self._compositor.compose(picture, self.body).copy()
