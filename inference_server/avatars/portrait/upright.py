"""Pictures that were stored on their side or upside down, by what their face says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.framing import LEVEL, MAX_ROLL, roll
from inference_server.avatars.portrait.landmarks import FaceLandmarks, FaceMesh

_SURE = 0.8
"""A level face of this score is upright: upside down the mesh finds level faces too, of 0.5 to 0.75."""
_LEAST = 0.7
_BETTER = 0.1


def upright(rgb: NDArray[np.uint8], mesh: FaceMesh) -> tuple[NDArray[np.uint8], list[FaceLandmarks]]:
    """The picture turned by the quarter turns that its largest face asks for, and its faces, largest first.

    ``rgb``: ``(h, w, 3)``. It stays as it is where no turn shows a face that is found clearly better.
    """
    faces = mesh.detect(rgb)
    if faces and abs(roll(faces[0])) <= LEVEL and faces[0].score >= _SURE:
        return rgb, faces
    least = faces[0].score + _BETTER if faces and abs(roll(faces[0])) <= MAX_ROLL else _LEAST
    best = rgb, faces
    for quarters in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(rgb, -quarters))
        found = mesh.detect(turned)
        if found and abs(roll(found[0])) <= MAX_ROLL and found[0].score >= max(least, _LEAST):
            best, least = (turned, found), found[0].score
    return best
