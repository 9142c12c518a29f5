"""The test card is read back from its pixels, after H.264 at a telephone's bitrate too."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from inference_server.engines.card import audio_crc, draw_body, draw_mouth, mouth_rect
from testing.card import read_card
from visavis.frames import crop_i420, paste_i420
from visavis.rgb import to_rgb

SIZES = [(512, 512), (300, 300), (640, 480), (1280, 720), (320, 240)]


def card(width: int, height: int, k: int, alpha: float = 1.0) -> np.ndarray:
    """Frame k: loop index 40+k, avatar 4242, mouth number 17."""
    picture = draw_body(width, height, 40 + k, 125, 4242)
    rect = mouth_rect(width, height)
    mouth = np.empty(rect.i420_size, np.uint8)
    draw_mouth(mouth, rect, k, 40 + k, 17, 1000 + k, k / 20)
    under = np.frombuffer(crop_i420(picture, width, height, rect), np.uint8).astype(np.float32)
    blended = np.rint(under + (mouth - under) * alpha).astype(np.uint8)
    paste_i420(picture, width, height, rect, blended.tobytes())
    return picture


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_rectangle_is_even_and_inside(width: int, height: int) -> None:
    mouth_rect(width, height).validate(width, height)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_what_is_drawn_is_read(width: int, height: int) -> None:
    for k in (0, 5, 19):
        picture = card(width, height, k)
        for pixels in (picture[:height], to_rgb(picture, width, height)):
            reading = read_card(pixels)
            assert reading is not None and reading.mouth is not None
            assert (reading.loop_index, reading.number) == (40 + k, 4242)
            mouth = reading.mouth
            assert (mouth.frame, mouth.loop_index, mouth.number, mouth.audio_crc) == (k, 40 + k, 17, 1000 + k)
            assert abs(mouth.level - k / 20) < 0.02


def test_a_body_has_no_mouth_and_a_closing_mouth_can_still_be_read() -> None:
    body = draw_body(512, 512, 3, 125, 9)
    reading = read_card(body[:512])
    assert reading is not None and (reading.loop_index, reading.number, reading.mouth) == (3, 9, None)
    for alpha in (2 / 3, 1 / 3):
        reading = read_card(card(512, 512, 4, alpha)[:512])
        assert reading is not None and reading.mouth is not None and reading.mouth.frame == 4
    reading = read_card(card(512, 512, 4, 0.0)[:512])
    assert reading is not None and reading.mouth is None


def test_other_pictures_are_no_card() -> None:
    assert read_card(np.full((240, 320), 126, np.uint8)) is None
    noise = np.random.default_rng(1).integers(0, 256, (240, 320), np.uint8)
    assert read_card(noise) is None
    mixed = card(512, 512, 4)
    mixed[:512] = np.rint(
        (mixed[:512].astype(float) + card(512, 512, 9)[:512]) / 2
    )  # a cross-fade of two frames
    assert read_card(mixed[:512]) is None


@pytest.mark.parametrize(("width", "height"), [(512, 512), (300, 300)])
def test_it_survives_h264(width: int, height: int) -> None:
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(25), Fraction(1, 25)
    encoder.bit_rate = 1_000_000
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    packets = []
    for k in range(20):
        frame = av.VideoFrame.from_ndarray(card(width, height, k), "yuv420p")
        frame.pts = k
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    assert len(frames) == 20
    for k, frame in enumerate(frames):
        reading = read_card(frame.to_ndarray(format="rgb24"))
        assert reading is not None and reading.mouth is not None, k
        assert (reading.loop_index, reading.mouth.frame, reading.mouth.audio_crc) == (40 + k, k, 1000 + k)


def test_audio_is_named_by_its_samples() -> None:
    a = np.arange(640, dtype=np.int16)
    assert audio_crc(a) != audio_crc(a[::-1]) and audio_crc(a[:0]) == 0
    assert audio_crc(a) == audio_crc(np.stack((a, a), 1)[:, 0])
