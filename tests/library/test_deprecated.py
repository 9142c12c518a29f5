"""Names of the library: those that documentation named by module are found there for one release more."""

from __future__ import annotations

import importlib
from fractions import Fraction
from importlib import metadata

import numpy as np
import pytest

import visavis
from tests.support.bt601 import exact_rgb
from visavis.playout.compositor import Compositor
from visavis.playout.picture import Picture

MOVED = {
    "visavis.provider:ServerAvatarProvider": "visavis.roomkit.provider:ServerAvatarProvider",
    "visavis.transport:ServerClient": "visavis.client.server:ServerClient",
    "visavis.frames:i420_to_rgb": "visavis.rgb:to_rgb",
}
KEPT = {
    "visavis.frames": (
        "Frame",
        "Rect",
        "SAMPLE_RATE",
        "crop_i420",
        "frame_start",
        "i420_planes",
        "paste_i420",
    ),
    "visavis.rgb": ("to_rgb",),
    "visavis.roomkit": ("AvatarProvider", "VideoFrame"),
    "inference_server.engines.base": ("BodyLoop", "Engine", "Prepared"),
}


@pytest.mark.parametrize("place", MOVED)
def test_a_name_that_moved_is_found_with_a_warning(place: str) -> None:
    module, name = place.split(":")
    new_module, new_name = MOVED[place].split(":")
    with pytest.warns(DeprecationWarning, match=f"use {new_module}.{new_name}") as told:
        found = getattr(importlib.import_module(module), name)
    assert told[0].filename == __file__
    assert found is getattr(importlib.import_module(new_module), new_name)
    assert not hasattr(importlib.import_module(module), "nothing_of_the_kind")


def test_the_canvas_still_paints() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 12, 8), np.uint8)
    body = visavis.Body(8, 8, Fraction(25), frames, b"")
    canvas_module = importlib.import_module("visavis.canvas")
    with pytest.warns(DeprecationWarning, match="use visavis.playout.compositor.Compositor"):
        canvas = canvas_module.Canvas(body)
    first, compositor = canvas.draw(Picture(1)), Compositor()
    assert np.array_equal(first, compositor.compose(Picture(1), body))
    assert np.array_equal(canvas.draw(Picture(2)), compositor.compose(Picture(2), body))
    assert np.array_equal(first, frames[1])  # a picture is the caller's own


def test_the_colours_of_the_deprecated_name_are_the_same() -> None:
    picture = np.random.default_rng(3).integers(16, 236, (48, 32), np.uint8)
    with pytest.warns(DeprecationWarning):
        convert = importlib.import_module("visavis.frames").i420_to_rgb
    assert np.abs(convert(picture, 32, 32).astype(int) - exact_rgb(picture, 32, 32)).max() <= 2


@pytest.mark.parametrize("module", KEPT)
def test_documented_modules_stay_where_they_are(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in KEPT[module] if not hasattr(found, name)] == []


def test_every_public_name_can_be_imported() -> None:
    assert [name for name in visavis.__all__ if getattr(visavis, name, None) is None] == []


def test_the_version_is_that_of_the_package() -> None:
    assert visavis.__version__ == metadata.version("visavis")
