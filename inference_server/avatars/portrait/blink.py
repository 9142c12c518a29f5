"""Eyelids: lid skin that slides over a still eyeball."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.cast import Sheet
from inference_server.avatars.portrait.eyes import fitted
from inference_server.avatars.portrait.framing import EYES, eye_opening

_BROWS = ((46, 53, 52, 65, 55), (276, 283, 282, 295, 285))
"""Points of the mesh along each brow's lower edge."""
_BROW = 0.6  # of the eye's height: a brow that is nearer leaves too little skin for a lid
_DARK = 0.55  # of the skin under the eye: darker than that above it are brow, lashes or a deep shadow
_LASHES = 0.45  # the least share of paint: lashes would be dragged down with the skin between them
_CLOSED = 0.13  # an eye that is open less than this (height over width) does not blink


class Blinker:
    """Draws the eyes of one picture with the lids anywhere between open and shut."""

    def __init__(self, rgb: NDArray[np.uint8], points: NDArray[np.float32]) -> None:
        self._rgb = rgb
        sides = [side for side in (0, 1) if eye_opening(points, side) >= _CLOSED]
        rings = fitted(rgb, [points[list(EYES[side]), :2] for side in sides])
        self._eyes = [
            _Eye(rgb, ring, points[list(_BROWS[side]), :2]) for ring, side in zip(rings, sides, strict=True)
        ]

    @property
    def any(self) -> bool:
        """Whether the picture has an eye that can blink."""
        return bool(self._eyes)

    def draw(self, shut: float) -> NDArray[np.uint8]:
        """The picture with both lids ``shut`` 0..1."""
        out = self._rgb.copy()
        for eye in self._eyes:
            eye.draw(out, shut)
        return out


class RenderedLids:
    """The same of a built-in face, whose lids were rendered on their way down.

    A picture shows them where one was rendered: between two, lashes would be there twice and pale.
    """

    any = True

    def __init__(self, rgb: NDArray[np.uint8], lids: Sheet, framing: NDArray[np.float32]) -> None:
        self._rgb = rgb
        part = lids.covered(framing, rgb.shape[1], rgb.shape[0])
        self._part = (slice(part.y, part.y + part.height), slice(part.x, part.x + part.width))
        none = np.zeros((part.height, part.width, 3), np.int16)
        self._changes = [none, *lids.differences(framing, part)]
        self._shut = np.concatenate([[0.0], lids.values.ravel()])

    def draw(self, shut: float) -> NDArray[np.uint8]:
        """The picture with both lids about ``shut`` 0..1."""
        out = self._rgb.copy()
        nearest = int(np.abs(self._shut - shut).argmin())
        out[self._part] = np.clip(out[self._part] + self._changes[nearest], 0, 255)
        return out


class _Eye:
    def __init__(self, rgb: NDArray[np.uint8], ring: NDArray[np.float32], brow: NDArray[np.float32]) -> None:
        inner_outer = ring[8] - ring[0]
        self._width = float(np.linalg.norm(inner_outer))
        left, right = (ring[0], ring[8]) if ring[0, 0] < ring[8, 0] else (ring[8], ring[0])
        axis = (right - left) / np.linalg.norm(right - left)
        down = np.array([-axis[1], axis[0]], np.float32)
        upper = ring[:9] if ring[0, 0] < ring[8, 0] else ring[8::-1]
        lower = np.concatenate([ring[8:], ring[:1]])
        lower = lower[::-1] if ring[0, 0] < ring[8, 0] else lower
        pad = 0.55 * self._width
        low = np.floor(ring.min(0) - pad).astype(int)
        high = np.ceil(ring.max(0) + pad).astype(int)
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, [rgb.shape[1], rgb.shape[0]])
        self._slices = (slice(y0, y1), slice(x0, x1))
        self._patch = rgb[self._slices].astype(np.float32)
        gx, gy = np.meshgrid(np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32))
        # coordinates along the eye, 0..1 between the corners, and below the line between them
        self._s = ((gx - left[0]) * axis[0] + (gy - left[1]) * axis[1]) / self._width
        self._t = (gx - left[0]) * down[0] + (gy - left[1]) * down[1]
        self._down = down
        self._gx, self._gy = gx - x0, gy - y0
        self._upper = _curve(upper, left, axis, down, self._width, self._s)
        self._lower = _curve(lower, left, axis, down, self._width, self._s)
        self._gap = float((self._lower - self._upper).max())
        along, height = (brow - left) @ axis / self._width, (brow - left) @ down
        order = np.argsort(along)
        self._free = self._upper - np.interp(self._s, along[order], height[order]).astype(np.float32)
        inside = (self._s > 0.25) & (self._s < 0.75)
        below = inside & _between(self._t - self._lower, 0.35 * self._gap, 0.9 * self._gap)
        self._skin = np.median(self._patch[below], 0) if below.any() else np.full(3, 160.0)
        near = float(np.median(self._free[inside])) / max(self._gap, 1.0) if inside.any() else 1.0
        over = inside & _between(self._upper - self._t, 0.3 * self._gap, 0.9 * self._gap)
        dark = (
            float(np.median(self._patch[over].mean(1))) / max(float(self._skin.mean()), 1.0)
            if over.any()
            else 1.0
        )
        self._painted = float(np.clip(max((_BROW - near) / 0.2, (_DARK - dark) / 0.1), _LASHES, 1))

    def draw(self, out: NDArray[np.uint8], shut: float) -> None:
        if shut <= 0:
            return
        s, t = self._s, self._t
        within = np.clip(np.minimum(s + 0.02, 1.02 - s) / 0.12, 0, 1)
        within = within * within * (3 - 2 * within)
        gap = self._lower - self._upper
        reach_down = 0.92 * gap + shut**4 * (0.22 * gap + 0.8)  # shut, no white is left below the lid
        edge = self._upper + shut * reach_down * (within > 0)
        drop = edge - self._upper
        above = edge - t  # how far a pixel is above the lid's edge
        rim = 0.12 * self._gap + 0.6
        lashes_up = 0.26 * self._gap + 0.6  # lashes and rim of the lid move as one piece
        # above this (at rest) the skin does not move, nor does the brow
        fold = np.clip(0.85 * self._free, lashes_up + 0.15 * self._gap, lashes_up + 0.70 * self._gap)
        reach = fold + drop
        stretched = lashes_up + (above - lashes_up) * (fold - lashes_up) / np.maximum(reach - lashes_up, 1e-3)
        source_above = np.where(above < reach, stretched, above - drop)
        source_above = np.where(above < lashes_up, above, source_above)
        shift = np.where(above > -rim, drop + source_above - above, 0) * within
        # pixel at t shows what is at t' = upper - source_above
        moved = cv2.remap(
            self._patch,
            (self._gx - shift * self._down[0]).astype(np.float32),
            (self._gy - shift * self._down[1]).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        moved = self._paint(moved, above, drop, rim)
        lid = np.clip(above + 0.5, 0, 1) * (drop > 0)
        # stretched skin loses its shading: bring back the roundness of the eyeball under it
        round_ = np.clip(above / np.maximum(drop, 1e-3), 0, 1)
        shade = 1 - 0.10 * shut * np.exp(-((above - 0.05 * drop) ** 2) / (0.15 * self._gap + 1) ** 2)
        shade += 0.05 * shut * np.sin(np.pi * round_) * (above < drop)
        moved = moved * shade[:, :, None]
        lash = np.clip(1 + above / rim, 0, 1) * (above <= 0.5) * (drop > 0)
        below = (
            self._patch
            * (1 - 0.35 * np.exp(np.minimum(above, 0) / (0.18 * self._gap + 0.5)) * (drop > 0))[:, :, None]
        )
        below = np.where(
            lash[:, :, None] > 0,
            np.minimum(below, moved * lash[:, :, None] + below * (1 - lash)[:, :, None]),
            below,
        )
        # the lower lid comes up a little
        opened = np.where(((t <= self._lower + 0.7) & (drop > 0))[:, :, None], below, self._patch)
        mixed = opened * (1 - lid[:, :, None]) + moved * lid[:, :, None]
        weight = (within * np.clip((s + 0.1) * 20, 0, 1))[:, :, None]
        mixed = self._patch * (1 - weight) + mixed * weight
        out[self._slices] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)

    def _paint(
        self, moved: NDArray[Any], above: NDArray[np.float32], drop: NDArray[np.float32], rim: float
    ) -> NDArray[Any]:
        """The lid in the colour of the skin under the eye, the more the less there is above it to be drawn down."""
        over = np.clip(above / np.maximum(drop, 1e-3), 0, 1)
        tone = 0.90 + 0.07 * np.sin(np.pi * over) - 0.10 * np.exp(-((above / (0.2 * self._gap + 0.5)) ** 2))
        weight = np.clip((above - 0.5 * rim) / rim, 0, 1) * np.clip(
            (drop - above) / (0.3 * drop + 0.5) + 0.5, 0, 1
        )
        weight = (self._painted * weight)[:, :, None]
        painted: NDArray[Any] = moved + weight * (self._skin * tone[:, :, None] - moved)
        return painted


def _between(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.bool_]:
    return (values > low) & (values < high)


def _curve(
    points: NDArray[np.float32],
    origin: NDArray[np.float32],
    axis: NDArray[np.float32],
    down: NDArray[np.float32],
    width: float,
    s: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Height of a lid below the line of the corners, for every s: a quartic through its points."""
    along = (points - origin) @ axis / width
    depth = (points - origin) @ down
    inside = np.clip(along, 0, 1)
    basis = np.stack([inside * (1 - inside) * inside**k for k in range(3)], 1)
    factors = np.linalg.lstsq(basis, depth, rcond=None)[0]
    x = np.clip(s, 0, 1)
    out: NDArray[np.float32] = (x * (1 - x) * (factors[0] + x * (factors[1] + x * factors[2]))).astype(
        np.float32
    )
    return out
