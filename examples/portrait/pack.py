"""Rendered mouths, lids and depth to what ships beside a picture: ``inference_server/avatars/portrait/cast``.

    python -m examples.portrait.pack SHEETS PICTURE.png OUT.npz [--paint-mouths]

``SHEETS`` is the folder that ``python -m examples.portrait --sheets`` fills. Needs no Blender, but the product's
environment. With ``--paint-mouths`` lids and depth alone: the mouth is painted, as on a photograph.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait import cast
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.portrait.atlas import OPENS, POSES, WIDTHS

Picture = NDArray[np.float32]

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 93, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_NOISE = 3  # levels: what changes less is the renderer's noise
_SEEN = (0.0, 0.06, 0.11, 0.18, 0.31, 0.46, 0.62, 0.8, 1.0)
"""How far lips are seen to part in each row of the poses, where they are not spread: full lips hide a small gap."""
_NEEDED = {
    index for index in range(len(POSES)) if index // len(WIDTHS) % 2 == 0 or index >= len(OPENS) * len(WIDTHS)
}
"""The mouths that must be there; rows between them can be mixed."""
_FEATHER = 10  # pixels


def pack(sheets: Path, picture: Path, paint_mouths: bool = False) -> dict[str, Any]:
    """The arrays of the file."""
    about = json.loads((sheets / "about.json").read_text())
    whole = load_image(picture.read_bytes())
    digest, _ = cast.of(whole)
    parts: dict[str, Any] = {
        "picture": np.array(digest),
        "depth": np.load(sheets / "depth.npy"),
        "millimetre": np.float32(about["millimetre"]),
    }
    assert [tuple(m) for m in about["mouths"]] == [(p.open, p.width, p.press, p.fv) for p in POSES]
    for name, prefix, values, digits in (
        ("mouths", "mouth", about["mouths"], 2),
        ("lids", "lids", about["shut"], 1),
    ):
        files = {index: sheets / f"{prefix}-{index:0{digits}d}.png" for index in range(len(values))}
        there = {index: _rgb(file) for index, file in files.items() if file.exists()}
        if not set(there) >= (_NEEDED if name == "mouths" else set(files)) or (
            name == "mouths" and paint_mouths
        ):
            continue
        tiles = [_seen(there, index) if name == "mouths" else there[index] for index in files]
        rest = _rgb(sheets / f"{prefix}-rest.png")
        x, y, w, h = about[prefix]
        part = whole[y : y + h, x : x + w].astype(np.float32)
        jpegs = [_jpeg(_difference(tile, rest, part)) for tile in tiles]
        parts |= {
            name: np.concatenate(jpegs),
            f"{name}_sizes": np.array([len(file) for file in jpegs], np.int32),
            f"{name}_at": np.array(about[prefix], np.int32),
            f"{name}_values": np.array(values, np.float32),
        }
    return parts


def _rgb(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return picture.astype(np.float32)


def _seen(tiles: Mapping[int, Picture], index: int) -> Picture:
    """What a pose of the grid looks like, out of the two that are seen to be open next to it."""
    row, column = divmod(index, len(WIDTHS))
    if row >= len(OPENS):
        return tiles[index]
    seen = OPENS if WIDTHS[column] > 0 else _SEEN
    rows = [each for each in range(len(OPENS)) if each * len(WIDTHS) + column in tiles]
    at = float(np.interp(OPENS[row], [seen[each] for each in rows], np.arange(len(rows))))
    below = min(int(at), len(rows) - 2)
    lower, upper = (tiles[rows[each] * len(WIDTHS) + column] for each in (below, below + 1))
    return lower + np.float32(at - below) * (upper - lower)


def _jpeg(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    done, data = cv2.imencode(".jpg", rgb[:, :, ::-1], _JPEG)
    assert done
    return data.ravel()


def _difference(shown: Picture, rest: Picture, picture: Picture) -> NDArray[np.uint8]:
    """What is ``shown`` instead of the part ``rest``: little of the renderer's noise, and nothing at the edges.

    Where much changes it is the difference from the ``picture`` itself, so that nothing of it shines through.
    """
    change = shown - rest
    calm = cv2.GaussianBlur(change, (0, 0), 2.0)
    most = cv2.GaussianBlur(np.abs(change).max(2), (0, 0), 1.5)
    there = np.clip((np.maximum(np.abs(calm).max(2), most - _NOISE) - 1) / _NOISE, 0, 1)
    much = np.clip((most - 2 * _NOISE) / (2 * _NOISE), 0, 1)
    change = calm + (change - calm) * much[:, :, None]
    change += (rest - picture) * cv2.GaussianBlur(much, (0, 0), 1.5)[:, :, None]
    h, w = there.shape
    edge = np.minimum.outer(
        np.minimum(np.arange(h), np.arange(h)[::-1]), np.minimum(np.arange(w), np.arange(w)[::-1])
    )
    there *= np.clip((edge - 1) / _FEATHER, 0, 1)
    packed = np.clip(np.round(cast.MIDDLE + change * there[:, :, None] / 2), 0, 255)
    return np.asarray(packed, np.uint8)


def main() -> None:
    """Pack one face."""
    parser = argparse.ArgumentParser(prog="python -m examples.portrait.pack", description=__doc__)
    parser.add_argument("sheets", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--paint-mouths", action="store_true")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **pack(options.sheets, options.picture, options.paint_mouths))


if __name__ == "__main__":
    main()
