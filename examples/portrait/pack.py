"""Rendered mouths, lids and depth to what ships beside a picture: ``inference_server/avatars/portrait/cast``.

    python -m examples.portrait.pack SHEETS PICTURE.png OUT.npz

``SHEETS`` is the folder that ``python -m examples.portrait --sheets`` fills. Needs no Blender, but the product's
environment.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait import cast
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.portrait.atlas import POSES

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 93, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_NOISE = 3  # levels: what changes less is the renderer's noise
_FEATHER = 10  # pixels


def pack(sheets: Path, picture: Path) -> dict[str, Any]:
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
    for name, prefix, values in (("mouths", "mouth", about["mouths"]), ("lids", "lids", about["shut"])):
        tiles = [
            sheets / f"{prefix}-{index:0{2 if prefix == 'mouth' else 1}d}.png" for index in range(len(values))
        ]
        if all(tile.exists() for tile in tiles):
            rest = _rgb(sheets / f"{prefix}-rest.png")
            x, y, w, h = about[prefix]
            part = whole[y : y + h, x : x + w].astype(np.int16)
            files = [_jpeg(_difference(_rgb(tile), rest, part)) for tile in tiles]
            parts |= {
                name: np.concatenate(files),
                f"{name}_sizes": np.array([len(file) for file in files], np.int32),
                f"{name}_at": np.array(about[prefix], np.int32),
                f"{name}_values": np.array(values, np.float32),
            }
    return parts


def _rgb(path: Path) -> NDArray[np.int16]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return picture.astype(np.int16)


def _jpeg(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    done, data = cv2.imencode(".jpg", rgb[:, :, ::-1], _JPEG)
    assert done
    return data.ravel()


def _difference(
    shown: NDArray[np.int16], rest: NDArray[np.int16], picture: NDArray[np.int16]
) -> NDArray[np.uint8]:
    """What is ``shown`` instead of the part ``rest``: little of the renderer's noise, and nothing at the edges.

    Where much changes it is the difference from the ``picture`` itself, so that nothing of it shines through.
    """
    change = (shown - rest).astype(np.float32)
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
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **pack(options.sheets, options.picture))


if __name__ == "__main__":
    main()
