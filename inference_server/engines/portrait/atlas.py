"""The mouth in some eighty poses, as I420 pixels, and any mouth as a mixture of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.i420 import pack, to_planes
from inference_server.avatars.portrait.cast import Sheet
from inference_server.avatars.portrait.closing import fade
from inference_server.avatars.portrait.lips import Pose
from inference_server.engines.portrait.painter import Painter
from visavis.frames import Rect

OPENS = (0.0, 0.08, 0.17, 0.27, 0.38, 0.5, 0.63, 0.8, 1.0)
WIDTHS = (-1.0, -0.66, -0.33, 0.0, 0.5, 1.0)
SIDE = (-1.0, 0.0, 1.0)  # widths of the poses that are not on the grid
POSES = (
    tuple(Pose(o, w) for o in OPENS for w in WIDTHS)
    + tuple(Pose(0.0, w, press=1.0) for w in SIDE)
    + tuple(Pose(0.0, w, fv=1.0) for w in SIDE)
)
_PRESS = len(OPENS) * len(WIDTHS)
_FV = _PRESS + len(SIDE)
REST = WIDTHS.index(0.0)
"""The pose that is the portrait itself."""
_CLOSES, _BITES = (0.2, 0.55), (0.35, 0.9)  # from where on, and up to where, `close` and `fv` count


def paint_atlas(painter: Painter) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Each pose's index and its packed I420 ``(h * 3 // 2, w)``."""
    for index, pose in enumerate(POSES):
        yield index, pack(to_planes(painter.paint(pose)))


def rendered_atlas(
    reference: NDArray[np.uint8], region: Rect, mouths: Sheet, framing: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The same of a built-in face, whose mouths were rendered: the picture and what they change of it."""
    x, y, w, h = region
    patch = reference[y : y + h, x : x + w]
    weight = fade(w, h)[:, :, None]
    for index, change in enumerate(mouths.differences(framing, region)):
        shown = patch if index == REST else np.clip(np.rint(patch + weight * change), 0, 255)
        yield index, pack(to_planes(np.asarray(shown, np.uint8)))


@dataclass(frozen=True, slots=True)
class Mix:
    """Poses and their weights, which add up to 1."""

    poses: tuple[int, ...]
    weights: tuple[float, ...]


def mix_of(opening: float, width: float, press: float, fv: float, alpha: float = 1.0) -> Mix | None:
    """Which poses make this mouth; ``None`` for the mouth at rest."""
    width = min(max(width, -1.0), 1.0)
    # lips come together by closing, and only then press: a cross-fade of open and pressed lips would ghost
    press, fv = _step(press, *_CLOSES), _step(fv, *_BITES)
    opening = min(max(opening, 0.0), 1.0) * (1 - press) * (1 - 0.3 * fv)
    press = _step(press, 0.7, 1.0)
    weights: dict[int, float] = {}

    def add(index: int, weight: float) -> None:
        if weight > 0.004:
            weights[index] = weights.get(index, 0.0) + weight

    apart = alpha * fv
    pressed = alpha * press * (1 - fv)
    free = alpha * (1 - fv) * (1 - press)
    add(REST, 1 - alpha)
    for start, share in ((_PRESS, pressed), (_FV, apart)):
        for column, part in _between(SIDE, width):
            add(start + column, share * part)
    for row, tall in _between(OPENS, opening):
        for column, wide in _between(WIDTHS, width):
            add(row * len(WIDTHS) + column, free * tall * wide)
    if weights.get(REST, 0.0) > 0.985:
        return None
    total = sum(weights.values())
    return Mix(tuple(weights), tuple(w / total for w in weights.values()))


def parted(close: float, fv: float) -> float:
    """The share 0..1 of an opening that pressed lips, and a lip under the teeth, leave of it."""
    bite = _step(fv, *_BITES)
    return (1 - _step(close, *_CLOSES)) * (1 - 0.3 * bite) * (1 - 0.8 * bite)


def _step(value: float, low: float, high: float) -> float:
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _between(values: tuple[float, ...], at: float) -> list[tuple[int, float]]:
    above = next((i for i, v in enumerate(values) if v >= at), len(values) - 1)
    if above == 0:
        return [(0, 1.0)]
    share = (at - values[above - 1]) / (values[above] - values[above - 1])
    return [(above - 1, 1 - share), (above, share)]


def blend(atlas: NDArray[np.uint8], mix: Mix) -> NDArray[np.uint8]:
    """The mixture's packed I420."""
    poses, weights = mix.poses, mix.weights
    out: NDArray[np.uint8] = atlas[poses[0]]
    done = weights[0]
    for pose, weight in zip(poses[1:], weights[1:], strict=True):
        share = weight / (done + weight)
        out = np.asarray(cv2.addWeighted(out, 1 - share, atlas[pose], share, 0), np.uint8)
        done += weight
    return out
