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

_QUALITY = 88
_NOISE = 3  # levels: what changes less is the renderer's noise
_FEATHER = 10  # pixels


def pack(sheets: Path, picture: Path) -> dict[str, Any]:
    """The arrays of the file."""
    about = json.loads((sheets / "about.json").read_text())
    digest, _ = cast.of(load_image(picture.read_bytes()))
    parts: dict[str, Any] = {
        "picture": np.array(digest),
        "depth": np.load(sheets / "depth.npy"),
        "millimetre": np.float32(about["millimetre"]),
    }
    assert [tuple(m) for m in about["mouths"]] == [(p.open, p.width, p.press, p.fv) for p in POSES]
    for name, prefix, values in (("mouths", "mouth", about["mouths"]), ("lids", "lids", about["lids"])):
        tiles = [
            sheets / f"{prefix}-{index:0{2 if prefix == 'mouth' else 1}d}.png" for index in range(len(values))
        ]
        if all(tile.exists() for tile in tiles):
            rest = _rgb(sheets / f"{prefix}-rest.png")
            files = [_jpeg(_difference(_rgb(tile), rest)) for tile in tiles]
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
    done, data = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return data.ravel()


def _difference(shown: NDArray[np.int16], rest: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Without noise, and nothing at the edges."""
    change = (shown - rest).astype(np.float32)
    strong = np.clip((cv2.GaussianBlur(np.abs(change).max(2), (0, 0), 1.5) - _NOISE / 2) / _NOISE, 0, 1)
    h, w = strong.shape
    edge = np.minimum.outer(
        np.minimum(np.arange(h), np.arange(h)[::-1]), np.minimum(np.arange(w), np.arange(w)[::-1])
    )
    strong *= np.clip((edge - 1) / _FEATHER, 0, 1)
    change *= strong[:, :, None]
    return np.clip(np.round(cast.MIDDLE + change / 2), 0, 255).astype(np.uint8)


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
