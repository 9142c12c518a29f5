"""How a body moves while its mouth is at rest: short segments that all begin and end in the same pose.

At every cut the head is exactly in the pose of the reference and stands still, so that any segment may follow any
other: these cuts are the loop's jump points. Movements are smooth; only the gaze and the lids are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.depth import Relief
from inference_server.avatars.portrait.region import millimetre
from visavis.frames import Rect

MOST_BYTES = 100_000_000
"""Of a body's frames; what is over it has five seconds of them."""
LEAST_SECONDS = 5.0
_CELL = 8  # pixels of the coarse grid on which displacements are computed
_AXIS = 0.37  # face heights from the face to the axis of the neck: the segments' x over their yaw
_SOFT = 0.03
_LARGER = 1.15  # how much further than a bent picture a head whose depth is known turns, nods and tilts
_ROUNDS = 4  # in which the depth of what is seen at a place is found
_FINE = 4  # the same where the depth is known
_BLINK_SHAPE = ((0.0, 0.0), (0.045, 0.42), (0.09, 1.0), (0.13, 1.0), (0.2, 0.6), (0.27, 0.2), (0.34, 0.0))
_COUNTER = 0.5  # of the head's turn: so far the eyes turn back, to keep looking at who is spoken with
_WIDEST = 3.0  # degrees in the head: who looks further turns the head


@dataclass(frozen=True)
class Segment:
    """A movement to a pose and back the same way, whose pictures serve twice.

    ``kind`` is told to clients (``LoopSegment`` of the contract). The pose half-way: ``x`` and ``y`` in face
    heights (right, down), ``roll``, ``yaw`` and ``pitch`` (chin down) in radians. ``blinks``: when they begin, in
    seconds. ``look``: from when on, in seconds, and degrees right and down of a look away. ``brows``: from when on
    they rise, and how far, in face heights; ``breath``: how far the shoulders do.
    """

    kind: str
    seconds: float
    x: float
    y: float
    roll: float
    yaw: float
    pitch: float
    blinks: tuple[float, ...] = ()
    look: tuple[float, float, float] = (0.0, 0.0, 0.0)
    brows: tuple[float, float] = (0.0, 0.0)
    breath: float = 0.0


SEGMENTS = (
    Segment("breath", 1.6, 0.004, -0.003, 0.014, 0.016, -0.012, breath=0.006),
    Segment("tilt", 1.36, -0.012, 0.007, -0.046, -0.036, 0.030, blinks=(0.5,)),
    Segment("nod", 0.88, -0.020, 0.036, -0.014, -0.048, 0.104),
    Segment("lift", 0.96, 0.021, -0.034, 0.020, 0.052, -0.098, brows=(0.04, 0.010)),
    Segment("away", 1.36, 0.018, -0.008, 0.018, 0.050, -0.036, look=(0.1, 2.4, -1.6), brows=(0.1, 0.004)),
    Segment("turn", 1.36, -0.040, 0.003, -0.026, -0.108, 0.010, breath=0.004),
    Segment("glance", 1.2, -0.012, 0.006, 0.022, -0.020, 0.022, look=(0.16, -2.4, 1.0), breath=0.003),
    Segment("turn", 1.28, 0.039, 0.001, 0.034, 0.106, -0.012, blinks=(0.08,), brows=(0.2, 0.006)),
    Segment("breath", 1.36, -0.005, -0.004, -0.010, -0.018, -0.014, breath=0.006),
    Segment("nod", 0.8, 0.016, 0.022, 0.014, 0.040, 0.068, blinks=(0.16,)),
    Segment("tilt", 1.28, 0.014, 0.005, 0.042, 0.038, 0.024, breath=0.003),
    Segment("lift", 1.12, -0.018, -0.022, -0.018, -0.046, -0.066, blinks=(0.64,), brows=(0.1, 0.007)),
    Segment("sway", 1.2, 0.024, 0.002, 0.014, 0.024, 0.010, blinks=(0.4,), breath=0.003),
    Segment("away", 1.28, -0.014, 0.004, -0.016, -0.052, 0.020, look=(0.12, -2.6, -1.2)),
)
"""What a body can do, the most needed first. No two last longer than three seconds together."""


@dataclass(frozen=True)
class Poses:
    """``moves``: ``(n, 5)`` x, y, roll, yaw, pitch; ``lids``: ``(n,)`` 0 open to 1 closed; ``gaze``: ``(n, 2)``
    degrees right and down in the head; ``brows`` and ``breath``: ``(n,)`` up, in face heights; ``segments``:
    frames in the pose of the reference, and the kinds of what begins there."""

    moves: NDArray[np.float64]
    lids: NDArray[np.float64]
    gaze: NDArray[np.float64]
    brows: NDArray[np.float64]
    breath: NDArray[np.float64]
    segments: tuple[tuple[int, str], ...]

    def larger(self) -> Poses:
        """The same for a head that can turn as heads do."""
        return replace(self, moves=_LARGER * self.moves)

    @property
    def cuts(self) -> tuple[int, ...]:
        """Frames in the pose of the reference."""
        return tuple(start for start, _ in self.segments)

    @property
    def order(self) -> NDArray[np.int32]:
        """``(n,)``: which picture each frame is, where poses that come again are drawn once."""
        rows = np.column_stack((self.moves, self.lids, self.gaze, self.brows, self.breath))
        known: dict[bytes, int] = {}
        return np.array([known.setdefault((row + 0.0).tobytes(), len(known)) for row in rows], np.int32)

    @property
    def jumps(self) -> tuple[tuple[int, int], ...]:
        """(last frame of a segment, first frame of another one)."""
        n = len(self.moves)
        ends = [(cut - 1) % n for cut in self.cuts]
        return tuple((end, cut) for end in ends for cut in self.cuts if (end + 1) % n != cut)


def poses(fps: Fraction, frame_bytes: int) -> Poses:
    """The pose of every frame of a loop of as many segments as a body of such frames has room for."""
    most = max(int(LEAST_SECONDS * fps), MOST_BYTES // frame_bytes)
    chosen: tuple[Segment, ...] = SEGMENTS[:1]
    made = _joined(chosen, fps)
    for segment in SEGMENTS[1:]:
        more = _joined((*chosen, segment), fps)
        if more.order.max() < most:
            made, chosen = more, (*chosen, segment)
    return made


def _joined(chosen: tuple[Segment, ...], fps: Fraction) -> Poses:
    parts = [_poses(segment, fps) for segment in chosen]
    cuts = np.cumsum([0] + [len(part[0]) for part in parts[:-1]])
    moves, lids, gaze, brows, breath = (np.concatenate(column) for column in zip(*parts, strict=True))
    told = tuple((int(cut), segment.kind) for cut, segment in zip(cuts, chosen, strict=True))
    return Poses(moves, lids, gaze, brows, breath, told)


def _poses(segment: Segment, fps: Fraction) -> tuple[NDArray[np.float64], ...]:
    half = max(1, round(segment.seconds * fps / 2))
    t = np.arange(half + 1) * segment.seconds / (2 * half)
    middle = segment.seconds / 2
    pose = [segment.x, segment.y, segment.roll, segment.yaw, segment.pitch]
    moves = np.outer(_rise(t, 0, middle), pose)
    start, right, down = segment.look
    away = t > start  # within a picture: a saccade takes 30 ms
    gaze = _within(np.outer(away, [right, down]) - _COUNTER * np.degrees(moves[:, 3:5]), _WIDEST)
    start, height = segment.brows
    brows = height * _rise(t, start, middle)
    breath = segment.breath * _rise(t, 0, middle)
    times, values = np.array(_BLINK_SHAPE).T
    lids = np.zeros(2 * half)
    for start in segment.blinks:
        whole = np.arange(2 * half) * segment.seconds / (2 * half)
        lids = np.maximum(lids, np.interp(whole - start, times, values, 0, 0))
    there_and_back = np.concatenate((np.arange(half + 1), np.arange(half - 1, 0, -1)))
    return moves[there_and_back], lids, gaze[there_and_back], brows[there_and_back], breath[there_and_back]


def _within(angles: NDArray[np.float64], widest: float) -> NDArray[np.float64]:
    """Angles ``(n, 2)`` that never reach ``widest``: small ones stay as they are, wide ones come near it softly."""
    size = np.hypot(*angles.T) / widest
    out: NDArray[np.float64] = angles / ((1 + size**4) ** 0.25)[:, None]
    return out


def _rise(t: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    """From 0 at ``start`` to 1 at ``end``, still at both (a quintic)."""
    return _smooth((t - start) / (end - start))


class HeadMotion:
    """Displacement of the picture for a pose of the head.

    Around the mouth the displacement is exactly affine, so that a mouth drawn once can follow; towards the
    shoulders and the background it fades out.
    """

    def __init__(
        self, points: NDArray[np.float32], area: Rect, mouth: Rect, relief: Relief | None = None
    ) -> None:
        """``relief``: how deep each pixel lies, where that is known; else the mesh tells something of it."""
        self._area = area
        cell = self._cell = _CELL if relief is None else _FINE
        columns, rows = -(-area.width // cell), -(-area.height // cell)
        self._grid = (columns, rows)
        x = area.x + (np.arange(columns) + 0.5) * cell - 0.5
        y = area.y + (np.arange(rows) + 0.5) * cell - 0.5
        gx, gy = np.meshgrid(x, y)
        self._face = float(np.linalg.norm(points[10, :2] - points[152, :2]))
        self._centre = points[:, :2].mean(0)
        self._weight = _head_weight(gx, gy, points, mouth, self._face)
        if relief is None:
            depth, slope = _depth(gx, gy, points, mouth, self._face)
        else:
            depth, slope = _known_depth(gx, gy, points, relief, self._face)
        # what parallax adds where the depth is not the mouth's plane
        above = depth - (slope[0] * gx + slope[1] * gy + slope[2])
        self._relief: NDArray[np.float32] = above.astype(np.float32)
        low = max(float(points[152, 1]), float(mouth.y + mouth.height)) + 2 * _CELL
        self._shoulders = _smooth((gy - low) / (0.35 * self._face))
        self._slope = slope  # depth = slope[0] * x + slope[1] * y + slope[2] around the mouth
        self._gx, self._gy = gx, gy

    def affine(self, move: NDArray[np.float64]) -> NDArray[np.float32]:
        """Where a point around the mouth goes, ``(2, 3)``."""
        return self._forward(move)[0]

    def maps(
        self, move: NDArray[np.float64], breath: float = 0.0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For every pixel of the area, the x and the y of the reference (in the area) that is seen there."""
        affine, yaw, pitch = self._forward(move)
        inverse = cv2.invertAffineTransform(affine)
        dx = inverse[0, 0] * self._gx + inverse[0, 1] * self._gy + inverse[0, 2] - self._gx
        dy = inverse[1, 0] * self._gx + inverse[1, 1] * self._gy + inverse[1, 2] - self._gy
        relief = self._seen(dx, dy, yaw, pitch)
        dx, dy = dx - yaw * relief, dy - pitch * relief
        cell = self._cell
        size = (self._grid[0] * cell, self._grid[1] * cell)
        area = self._area
        maps = []
        for delta in (dx * self._weight, dy * self._weight + breath * self._face * self._shoulders):
            full = cv2.resize(_edges(delta.astype(np.float32)), (size[0] + 2 * cell, size[1] + 2 * cell))
            maps.append(full[cell : cell + area.height, cell : cell + area.width])
        across, down = np.arange(area.width, dtype=np.float32), np.arange(area.height, dtype=np.float32)
        return (maps[0] + across).astype(np.float32), (maps[1] + down[:, None]).astype(np.float32)

    def _seen(
        self, dx: NDArray[np.float64], dy: NDArray[np.float64], yaw: float, pitch: float
    ) -> NDArray[np.float32]:
        """The relief of what comes to lie at each point of the grid: a nose that swings takes its height along."""
        if self._cell == _CELL or not (yaw or pitch):
            return self._relief
        columns, rows = (np.arange(n, dtype=np.float32) for n in self._grid)
        relief = self._relief
        for _ in range(_ROUNDS):
            across = columns + ((dx - yaw * relief) / self._cell).astype(np.float32)
            down = rows[:, None] + ((dy - pitch * relief) / self._cell).astype(np.float32)
            relief = np.asarray(
                cv2.remap(self._relief, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
                np.float32,
            )
        return relief

    def _forward(self, move: NDArray[np.float64]) -> tuple[NDArray[np.float32], float, float]:
        x, y, roll, yaw, pitch = (float(v) for v in move)
        cx, cy = (float(v) for v in self._centre)
        pivot = cy + 0.75 * self._face  # the head nods and tilts about the neck
        sx, sy, s0 = (float(v) for v in self._slope)
        linear = np.array([[1 + yaw * sx, yaw * sy - roll], [roll + pitch * sx, 1 + pitch * sy]])
        shift = np.array([x * self._face + yaw * s0 + roll * pivot, y * self._face + pitch * s0 - roll * cx])
        return np.hstack([linear, shift[:, None]]).astype(np.float32), yaw, pitch


def half_maps(
    mx: NDArray[np.float32], my: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same displacement for chroma planes, whose samples lie left across and between two rows down."""
    hx = mx[::2, ::2] / 2
    hy = ((my[::2, ::2] + my[1::2, ::2]) / 2 - 0.5) / 2
    return hx.astype(np.float32), hy.astype(np.float32)


def _edges(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """One more cell all around, continued linearly: resizing then keeps an affine field affine to its edge."""
    wide = np.pad(grid, 1, mode="reflect", reflect_type="odd")
    return np.ascontiguousarray(wide)


def _smooth(t: NDArray[np.float64]) -> NDArray[np.float64]:
    t = np.clip(t, 0, 1)
    return t * t * t * (10 - 15 * t + 6 * t * t)


def _outside(
    gx: NDArray[np.float64], gy: NDArray[np.float64], rect: tuple[float, ...]
) -> NDArray[np.float64]:
    """Distance to a rectangle (left, top, right, bottom), 0 inside."""
    dx = np.maximum(np.maximum(rect[0] - gx, gx - rect[2]), 0)
    dy = np.maximum(np.maximum(rect[1] - gy, gy - rect[3]), 0)
    return np.hypot(dx, dy)


def _head_weight(
    gx: NDArray[np.float64],
    gy: NDArray[np.float64],
    points: NDArray[np.float32],
    mouth: Rect,
    face: float,
) -> NDArray[np.float64]:
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    pad = _CELL * 2
    head = (
        min(low[0] - 0.1 * face, mouth.x - pad),
        min(low[1] - 0.25 * face, mouth.y - pad),
        max(high[0] + 0.1 * face, mouth.x + mouth.width + pad),
        max(high[1], mouth.y + mouth.height + pad),
    )
    return 1 - _smooth(_outside(gx, gy, tuple(float(v) for v in head)) / (0.75 * face))


def _depth(
    gx: NDArray[np.float64],
    gy: NDArray[np.float64],
    points: NDArray[np.float32],
    mouth: Rect,
    face: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height of the head's relief towards the camera in pixels, and the plane it is around the mouth."""
    cx, cy = points[:, :2].mean(0)
    z = -points[:, 2] + np.median(points[:, 2])
    flat = np.maximum(((gx[:, :, None] - points[:, 0]) ** 2 + (gy[:, :, None] - points[:, 1]) ** 2), 0)
    weight = np.exp(-flat / (2 * (0.07 * face) ** 2)) + 1e-12
    relief = (weight * z).sum(-1) / weight.sum(-1)
    # hair and neck fall away behind the face
    away = _smooth((np.hypot((gx - cx) / 0.75, gy - cy) / face - 0.45) / 0.5)
    relief = relief * (1 - away) + away * np.percentile(z, 5)
    near = _outside(gx, gy, (mouth.x, mouth.y, mouth.x + mouth.width, mouth.y + mouth.height))
    inside = near == 0
    if inside.sum() < 6:
        inside = near < 3 * _CELL
    columns = np.stack([gx[inside], gy[inside], np.ones(int(inside.sum()))], 1)
    slope = np.linalg.lstsq(columns, relief[inside], rcond=None)[0]
    plane = slope[0] * gx + slope[1] * gy + slope[2]
    blend = _smooth((near - 2 * _CELL) / (0.25 * face))
    return plane * (1 - blend) + relief * blend, slope


def _known_depth(
    gx: NDArray[np.float64],
    gy: NDArray[np.float64],
    points: NDArray[np.float32],
    relief: Relief,
    face: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As :func:`_depth`; flat only from the nose's base to the chin and a little beyond the lips."""
    mm = millimetre(points)
    core = (
        float(points[61, 0]) - 8 * mm,
        float(points[2, 1]) + 3 * mm,
        float(points[291, 0]) + 8 * mm,
        float(points[152, 1]),
    )
    # nothing that is seen lies behind the axis of the neck, about which the segments turn
    axis = -_AXIS * face
    heights = axis + _SOFT * face * np.logaddexp(0, (relief.over(gx, gy) - axis) / (_SOFT * face))
    near = _outside(gx, gy, core)
    inside = near < _FINE
    columns = np.stack([gx[inside], gy[inside], np.ones(int(inside.sum()))], 1)
    slope = np.asarray(np.linalg.lstsq(columns, heights[inside], rcond=None)[0], np.float64)
    plane = slope[0] * gx + slope[1] * gy + slope[2]
    blend = _smooth(near / (0.12 * face))
    return np.asarray(plane * (1 - blend) + heights * blend, np.float64), slope
