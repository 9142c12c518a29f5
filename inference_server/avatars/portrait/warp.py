"""Smooth warps from control points: thin-plate splines on a coarse grid (Bookstein 1989)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_CELL = 6


class Warp:
    """Backward warps of one patch of ``width`` x ``height`` pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._columns, self._rows = -(-width // _CELL) + 2, -(-height // _CELL) + 2
        x = (np.arange(self._columns) - 0.5) * _CELL - 0.5
        y = (np.arange(self._rows) - 0.5) * _CELL - 0.5
        self._grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        self.x = np.arange(width, dtype=np.float32)
        self.y = np.arange(height, dtype=np.float32)[:, None]

    def field(
        self, target: NDArray[np.float64], source: NDArray[np.float64], stiffness: float = 0.0
    ) -> NDArray[np.float32]:
        """``(height, width, 2)``: for each pixel, how far from it its source lies.

        ``target`` and ``source`` are ``(k, 2)`` pixels; ``stiffness`` lets the surface miss its points a little.
        """
        shift = _spline(target, source - target, self._grid, stiffness)
        coarse = shift.reshape(self._rows, self._columns, 2).astype(np.float32)
        size = (self._columns * _CELL, self._rows * _CELL)
        fine = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        return np.asarray(fine[_CELL : _CELL + self.height, _CELL : _CELL + self.width], np.float32)

    def apply(self, patch: NDArray[np.uint8], field: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The patch as seen through the field."""
        mx, my = self.x + field[:, :, 0], self.y + field[:, :, 1]
        return np.asarray(cv2.remap(patch, mx, my, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.uint8)


def _kernel(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = squared * np.log(np.maximum(squared, 1e-9))
    return out


def _spline(
    knots: NDArray[np.float64], values: NDArray[np.float64], at: NDArray[np.float64], stiffness: float
) -> NDArray[np.float64]:
    scale = float(np.ptp(knots)) or 1.0
    k, q = knots / scale, at / scale
    n = len(k)
    squared = ((k[:, None] - k[None]) ** 2).sum(-1)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(squared) + np.eye(n) * (stiffness * 1e-3)
    system[:n, n] = system[n, :n] = 1
    system[:n, n + 1 :] = k
    system[n + 1 :, :n] = k.T
    right = np.zeros((n + 3, values.shape[1]))
    right[:n] = values
    _, weights = cv2.solve(system, right, flags=cv2.DECOMP_LU)
    squared = (q**2).sum(1)[:, None] + (k**2).sum(1)[None] - 2 * _product(q, k.T)
    bend = _product(_kernel(np.maximum(squared, 0)), weights[:n])
    out: NDArray[np.float64] = bend + weights[n] + q[:, :1] * weights[n + 1] + q[:, 1:] * weights[n + 2]
    return out


def _product(a: NDArray[np.float64], b: NDArray[Any]) -> NDArray[np.float64]:
    nothing: Any = None
    return np.asarray(cv2.gemm(a, np.ascontiguousarray(b), 1.0, nothing, 0.0), np.float64)
