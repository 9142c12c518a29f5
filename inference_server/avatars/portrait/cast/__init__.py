"""What the built-in faces bring beside their picture: mouths and lids as they were rendered, and depth.

``NAME.npz``, made by ``examples/portrait``, found by the picture's pixels; places are pixels of that picture.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.framing import scale_of
from visavis.frames import Rect

FOLDER = Path(__file__).parent
MIDDLE = 128
"""What stands for no difference in a sheet: a difference is twice what a sheet's pixel is more."""
_NOISE = 2  # of a JPEG


@dataclass(frozen=True)
class Sheet:
    """Pictures of one part of a face as differences from the face at rest.

    ``files``: JPEGs. ``at``: where the part lies. ``values``: ``(n, ...)`` what each of them shows.
    """

    files: tuple[bytes, ...]
    at: Rect
    values: NDArray[np.float32]

    def differences(self, framing: NDArray[np.float32], region: Rect) -> Iterator[NDArray[np.int16]]:
        """``(height, width, 3)``: one after another over a region of the framed picture; ``framing`` ``(2, 3)`` is
        from pixels of the picture to its."""
        scale = scale_of(framing)
        affine = framing.astype(np.float64)
        affine[:, 2] += affine[:, :2] @ [self.at.x, self.at.y] - [region.x, region.y]
        size = (region.width, region.height)
        for file in self.files:
            tile = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB)
            assert tile is not None
            change = 2 * (tile.astype(np.int16) - MIDDLE)
            change[np.abs(change) <= _NOISE] = 0
            if scale < 0.9:  # as the picture itself was made smaller
                change = np.asarray(cv2.GaussianBlur(change, (0, 0), 0.35 / scale), np.int16)
            yield np.asarray(cv2.warpAffine(change, affine, size, flags=cv2.INTER_CUBIC), np.int16)

    def covered(self, framing: NDArray[np.float32], width: int, height: int) -> Rect:
        """The part of a framed picture that it changes."""
        x, y, w, h = self.at
        corners = np.array([[x, y], [x + w, y + h]], np.float64) @ framing[:, :2].T + framing[:, 2]
        x0, y0 = np.clip(np.floor(corners[0]).astype(int), 0, [width, height])
        x1, y1 = np.clip(np.ceil(corners[1]).astype(int), 0, [width, height])
        return Rect(int(x0), int(y0), int(x1 - x0), int(y1 - y0))


@dataclass(frozen=True)
class Rendered:
    """A built-in face.

    ``depth``: ``(h, w)`` over the whole picture, millimetres towards the camera, 0 in the background;
    ``millimetre``: in pixels. ``mouths``: one a pose of the atlas; ``lids``: by how far they are shut.
    """

    name: str
    depth: NDArray[np.uint8]
    millimetre: float
    mouths: Sheet | None
    lids: Sheet | None


def of(picture: NDArray[np.uint8]) -> tuple[str, Rendered | None]:
    """The built-in face that this picture ``(h, w, 3)`` RGB is, by the digest of its pixels, and that digest."""
    digest = hashlib.sha256(np.ascontiguousarray(picture).data).hexdigest()
    return digest, faces().get(digest)


@functools.cache
def faces() -> dict[str, Rendered]:
    """Every built-in face by the digest of its picture's pixels; read once, before there is a sandbox."""
    return dict(_read(path) for path in sorted(FOLDER.glob("*.npz")))


def _read(path: Path) -> tuple[str, Rendered]:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        parts = {name: file[name] for name in file.files}
    sheets = [_sheet(parts, name) if name in parts else None for name in ("mouths", "lids")]
    return str(parts["picture"]), Rendered(path.stem, parts["depth"], float(parts["millimetre"]), *sheets)


def _sheet(parts: dict[str, NDArray[Any]], name: str) -> Sheet:
    ends = np.cumsum(parts[f"{name}_sizes"])
    data = parts[name].tobytes()
    files = tuple(data[end - size : end] for size, end in zip(parts[f"{name}_sizes"], ends, strict=True))
    return Sheet(files, Rect(*map(int, parts[f"{name}_at"])), parts[f"{name}_values"])
