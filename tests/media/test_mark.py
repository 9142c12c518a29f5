"""The corner mark: where it is, that idle and speech have it alike, and that nothing changes without it."""

from __future__ import annotations

import asyncio
import string
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from orchestrator.media.parameters import Encoding, VideoParameters
from orchestrator.media.sources import StillBody
from orchestrator.media.video.director import Live, VideoDirector
from orchestrator.media.video.encoder import H264Encoder
from orchestrator.media.video.idle_loop import (
    IdleKey,
    IdleLoop,
    encode_phases,
    idle_key,
    packetize_phases,
)
from orchestrator.media.video.live import EncoderPool, LiveEncoder, LivePicture
from orchestrator.media.video.mark import corner_mark
from testing.caller import Phone
from testing.h264 import Depacketizer
from tests.support.house import orchestrator, tone
from tests.support.media import card, card_body, decode
from tests.support.servers import inference_server
from visavis.frames import Frame, Rect, crop_i420, i420_planes
from visavis.playout.playout import Picture

PLAIN = Encoding(192, 128, Fraction(10), 500_000, 12)
MARKED = replace(PLAIN, mark="AI")
WHOLE = Rect(0, 0, 192, 128)


def canvas(width: int, height: int) -> np.ndarray:
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = 100
    return picture


def marked(width: int, height: int, text: str) -> np.ndarray:
    picture = canvas(width, height)
    for view, pixels in corner_mark(text, i420_planes(picture, width, height)):
        view[:] = pixels
    return picture


def white(luma: np.ndarray, text: str = "AI") -> np.ndarray:
    """Where the corner of a picture that has a mark of this size is white."""
    height, width = luma.shape
    ((_, pixels), *_) = corner_mark(text, i420_planes(canvas(width, height), width, height))
    step = 2 * max(1, round(min(width, height) / 256))
    return luma[step : step + pixels.shape[0], step : step + pixels.shape[1]] > 125


def of_the_mark(width: int, height: int, text: str = "AI") -> np.ndarray:
    return white(marked(width, height, text)[:height], text)


@pytest.mark.parametrize(
    ("width", "height", "letter"),
    [(128, 96, 14), (176, 144, 14), (352, 288, 14), (512, 512, 28), (1280, 720, 42), (1080, 1920, 56)],
)
@pytest.mark.parametrize("text", ["X", "AI", "WXYZ"])
def test_letters_are_as_large_as_the_picture_allows(width: int, height: int, letter: int, text: str) -> None:
    rows, columns = np.nonzero(marked(width, height, text)[:height] == 235)
    assert rows.max() - rows.min() + 1 == letter
    assert rows.max() < height / 4 and columns.max() < width / 2
    changed = marked(width, height, text) != canvas(width, height)
    assert not changed[:height, width // 2 :].any() and not changed[height // 4 : height].any()


def test_a_picture_too_small_for_it_has_a_part_of_it() -> None:
    assert (marked(16, 16, "WXYZ")[:16] == 235).any()


def test_every_letter_is_another_one() -> None:
    assert len({marked(64, 64, letter).tobytes() for letter in string.ascii_uppercase}) == 26


def test_without_a_mark_nothing_changes() -> None:
    encoder = H264Encoder(PLAIN)
    encoder.write(card(5))
    for plane, wanted in zip(encoder.planes, i420_planes(card(5), 192, 128), strict=True):
        assert np.array_equal(plane, wanted)
    # What earlier versions coded and kept on disk is found.
    assert IdleKey("card", PLAIN, 1, False).digest() == "c6cfe2de32f52871c91d42fa95a432375e765237"


def test_a_loop_with_a_mark_is_another_loop() -> None:
    names = {IdleKey("card", replace(PLAIN, mark=text), 1, False).digest() for text in ("", "AI", "KI")}
    assert len(names) == 3
    call = VideoParameters(96, ("127.0.0.1", 9), 192, 128, mark="AI")
    assert idle_key(card_body(2), call).encoding.mark == "AI"


def sent(pictures: list[Picture], body: StillBody, loop: IdleLoop, encoding: Encoding) -> list[list[bytes]]:
    """Access units as a call sends them."""
    pool, director = EncoderPool(1), VideoDirector()
    coded, depacketizer, units = threading.Semaphore(0), Depacketizer(), []
    live = LiveEncoder(pool, encoding, 1, coded.release)
    sequence = 0
    for number, picture in enumerate(pictures):
        action = director.decide(picture, loop)
        assert action is not None
        if isinstance(action, Live):
            job = LivePicture(picture, body, action.idr, action.fresh, number)
            live.submit(job)
            assert coded.acquire(timeout=30)
            packets = [bytes(packet) for packet in job.packets]
        else:
            packets = [bytes(packet) for packet in action.packets]
        for at, data in enumerate(packets):
            out = depacketizer.push(sequence, number, at == len(packets) - 1, data[12:])
            sequence += 1
        assert out is not None
        units.append(out[1])
    live.close()
    pool.close()
    return units


@pytest.mark.parametrize("size", [(192, 128), (176, 144), (384, 256)])
def test_idle_and_speech_have_it_in_the_same_pixels(size: tuple[int, int]) -> None:
    """Mouths that touch the corner, whole frames, held pictures and fades; sent larger and smaller, too."""
    width, height = size
    encoding = replace(MARKED, width=width, height=height, level=13)
    body = card_body(20)
    loop = packetize_phases(encode_phases(body, IdleKey("card", encoding, 1, False)), 1, 20)
    bright = np.full((192, 192), 128, np.uint8)
    bright[:128] = 225
    corner = Rect(0, 0, 96, 64)
    pictures = [Picture(k) for k in range(8)]
    pictures += [
        Picture(8, Frame(1, 1, 0, 8, "mouth", corner, crop_i420(bright, 192, 128, corner))),
        Picture(9, Frame(1, 1, 0, 9, "mouth", WHOLE, bright.tobytes())),
        Picture(10, hold=True),
        Picture(11, fade=0.5),
        *(Picture(k % 20) for k in range(12, 30)),
    ]
    seen = decode(sent(pictures, body, loop, encoding))
    assert len(seen) == 30 and seen[9].mean() > 170 > seen[0].mean()
    wanted = of_the_mark(width, height)
    for luma in seen:
        assert np.array_equal(white(luma), wanted)


@pytest.mark.process
@pytest.mark.slow
async def test_a_caller_sees_it_from_the_first_picture_to_the_last() -> None:
    async with inference_server() as server, orchestrator([server], picture_mark="ai") as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            await house.idle_cached(call)
            turn = await house.play(call, [(0.0, tone(1.0))])
            await house.turn(call, turn)
            await house.idle_cached(call)
            await asyncio.sleep(0.5)
        async with asyncio.timeout(30):  # its last figures come after its end
            while (figures := (await house.call(call))["media"])["pictures_live"] < 10:
                await asyncio.sleep(0.05)
    assert figures["pictures_cached"] > 10
    seen = phone.recording.frames()
    wanted = of_the_mark(*reversed(seen[0].image.shape[:2]))
    assert all(np.array_equal(white(picture.image[..., 1]), wanted) for picture in seen)
