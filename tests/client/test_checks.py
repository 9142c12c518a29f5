"""What a server tells is believed only where it makes sense, whatever it came over."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from visavis.client.checks import checked_avatar, checked_frame
from visavis.client.model import Avatar, Opened
from visavis.errors import ProtocolError
from visavis.frames import Frame, Rect

AVATAR = Avatar("a", "b", b"", 64, 48, Fraction(25), 10)
OPENED = Opened(AVATAR, "i420", "rectangle", None, 0, 0, 400, 3)
FRAME = Frame(1, 0, 0, 9, "mouth", Rect(2, 2, 4, 4), bytes(24))


def test_jumps_beyond_the_loop_are_left_out() -> None:
    told = replace(AVATAR, jumps=((9, 0), (10, 0), (0, 10), (3, -1)))
    assert checked_avatar(told).jumps == ((9, 0),)


def test_segments_beyond_the_loop_are_left_out() -> None:
    told = replace(AVATAR, segments=((0, "breath"), (9, "nod"), (10, "tilt")))
    assert checked_avatar(told).segments == ((0, "breath"), (9, "nod"))


@pytest.mark.parametrize(
    "told",
    [
        *({"width": 63}, {"height": 0}, {"loop_length": 0}, {"fps": Fraction(0)}, {"fps": Fraction(241)}),
        *({"loop_length": (1 << 20) + 1}, {"width": 1 << 18, "height": 1 << 18}),
    ],
)
def test_an_avatar_that_cannot_be_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        checked_avatar(replace(AVATAR, **told))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "told",
    [
        {"loop_index": 10},
        {"rect": None, "pixels": None},
        {"rect": Rect(62, 2, 4, 4)},
        {"rect": Rect(1, 2, 4, 4)},
        {"pixels": bytes(23)},
        {"pixels": b""},
    ],
)
def test_a_frame_that_does_not_fit_is_refused(told: dict[str, object]) -> None:
    assert checked_frame(FRAME, OPENED) is FRAME
    with pytest.raises(ProtocolError):
        checked_frame(replace(FRAME, **told), OPENED)  # type: ignore[arg-type]


def test_rgb_has_three_bytes_for_each_pixel() -> None:
    rgb = replace(FRAME, pixels=bytes(48))
    assert checked_frame(rgb, replace(OPENED, pixel_format="rgb24")) is rgb
    body = replace(FRAME, kind="body", rect=None, pixels=None)
    assert checked_frame(body, OPENED) is body
