"""Any portrait that a person brings speaks, or the answer says why not and what to do."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image

from inference_server.avatars.loop import face_mesh, make_loop
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.base import BodyLoop, ImageRejected, Prepared
from inference_server.engines.portrait import PortraitEngine
from inference_server.engines.portrait.atlas import blend, mix_of
from tests.support import portraits
from tests.support.portraits import Picture, default
from visavis.frames import paste_i420
from visavis.rgb import to_rgb

SIZE = 256


@cache
def engine() -> PortraitEngine:
    made = PortraitEngine({})
    made.load(lambda share, sentence: None)
    return made


def encoded(picture: Picture, form: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(out, form, **options)
    return out.getvalue()


def gaps(data: bytes) -> tuple[float, float]:
    """Lip gap at rest and wide open, over the distance of the eyes, of the avatar made from these bytes."""
    *_, body = make_loop(load_image(data), body_id="i", width=SIZE, height=SIZE, fps=Fraction(1), fit="crop")
    assert isinstance(body, BodyLoop)
    *_, prepared = engine().prepare(body, {})
    assert isinstance(prepared, Prepared) and prepared.nbytes < 20_000_000
    handle = engine().attach(prepared, body)
    pictures = [body.frame(0), body.frame(0).copy()]
    mix = mix_of(0.9, 0.1, 0.0, 0.0)
    assert mix is not None
    out = bytearray(handle.rect(0).i420_size)
    rect = handle.draw(blend(handle.atlas, mix), 0, memoryview(out))
    paste_i420(pictures[1], SIZE, SIZE, rect, memoryview(out))
    engine().detach(handle)
    found = []
    for picture in pictures:
        points = face_mesh().detect(to_rgb(picture, SIZE, SIZE), refine=2)[0].points[:, :2]
        eyes = np.linalg.norm(points[33] - points[263])
        found.append(float(np.linalg.norm(points[13] - points[14]) / eyes))
    return found[0], found[1]


@pytest.mark.parametrize(
    "picture",
    [
        default,
        portraits.close_up,
        portraits.half_body,
        portraits.laughing,
        portraits.painting,
        portraits.cartoon,
        lambda: portraits.rendered("dark_beard"),
        lambda: portraits.rendered("glasses"),
        lambda: portraits.rendered("turned"),
    ],
    ids=[
        "fair skin",
        "close-up",
        "half-body",
        "teeth",
        "painting",
        "cartoon",
        "dark skin, beard",
        "glasses",
        "turned",
    ],
)
def test_it_speaks(picture: Callable[[], Picture]) -> None:
    rest, wide = gaps(encoded(picture()))
    assert rest < 0.09
    assert wide > rest + 0.06


def transparent() -> bytes:
    picture = Image.fromarray(default()).convert("RGBA")
    alpha = np.full(default().shape[:2], 255, np.uint8)
    alpha[: len(alpha) // 8] = 0
    picture.putalpha(Image.fromarray(alpha))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    return encoded(np.ascontiguousarray(np.rot90(default())), "JPEG", exif=exif)


def large() -> bytes:
    wide = np.full((750, 1000, 3), 120, np.uint8)
    wide[20:740, 140:860] = cv2.resize(default(), (720, 720))
    return encoded(np.asarray(cv2.resize(wide, (4000, 3000)), np.uint8), "JPEG", quality=80)


@pytest.mark.parametrize(
    "data",
    [
        sideways,
        transparent,
        lambda: encoded(default(), "JPEG", "L"),
        lambda: encoded(default(), "JPEG", "CMYK", quality=92),
        large,
    ],
    ids=["EXIF rotation", "alpha", "greyscale", "CMYK", "12 megapixels"],
)
def test_it_speaks_however_it_is_stored(data: Callable[[], bytes]) -> None:
    rest, wide = gaps(data())
    assert wide > rest + 0.06


def shrunk(side: int) -> Picture:
    return np.asarray(cv2.resize(default(), (side, side), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize(
    ("picture", "why", "what"),
    [
        (
            lambda: np.full((300, 300, 3), 140, np.uint8),
            "No face was found",
            "use a picture that shows one face",
        ),
        (lambda: portraits.rendered("averted"), "from the side", "looks towards the camera"),
        (  # OpenCV 5 sees no face there, OpenCV 4 one from the side
            lambda: portraits.rendered("profile"),
            "No face was found|from the side",
            "from the front, not in profile|looks towards the camera",
        ),
        (lambda: shrunk(130), "pixels high and needs 80", "from nearer or with more pixels"),
        (lambda: np.hstack([default(), default()]), "two faces of about the same size", "crop the picture"),
    ],
    ids=["no face", "averted", "profile", "small", "two faces"],
)
def test_it_says_why_not_and_what_to_do(picture: Callable[[], Picture], why: str, what: str) -> None:
    with pytest.raises(ImageRejected) as caught:
        gaps(encoded(picture()))
    sentence = str(caught.value)
    assert re.search(why, sentence) and re.search(what, sentence), sentence
    assert sentence.endswith(".") and "\n" not in sentence
