"""A face in a call, as the phone sees it: it nods when its caller pauses and looks away before an answer."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.base import BodyLoop
from testing.caller.movie import aligned
from testing.caller.phone import Phone
from tests.support.house import orchestrator
from tests.support.portraits import IRIS
from tests.support.servers import running_server

pytestmark = [pytest.mark.process, pytest.mark.slow]

SIZE, SMALL = 512, (96, 96)


def small(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.resize(picture, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)


def bodies(portrait: bytes) -> tuple[NDArray[np.float32], list[str]]:
    """Luma of the body half-way through each of its segments, and their kinds."""
    *_, body = make_loop(
        load_image(portrait), body_id="b", width=SIZE, height=SIZE, fps=Fraction(25), fit="crop"
    )
    assert isinstance(body, BodyLoop)
    starts = [start for start, _ in body.segments]
    middles = [(a + b) // 2 for a, b in zip(starts, [*starts[1:], len(body)], strict=True)]
    shown = np.stack([small(body.frame(index)[:SIZE]) for index in [*middles, 0]])
    return shown, [*(kind for _, kind in body.segments), "rest"]


async def test_it_nods_at_a_pause_and_then_looks_away() -> None:
    portrait = IRIS.read_bytes()
    known, kinds = bodies(portrait)
    rng = np.random.default_rng(1)
    words = (rng.normal(0, 3000, 8000 * 4) * np.repeat(rng.uniform(0.3, 1, 40), 800)).astype(np.int16)
    async with (
        running_server(engine="portrait") as server,
        orchestrator([server.address], portrait=portrait, fps=25) as house,
        Phone(house.uri) as phone,
    ):
        await house.call_id()
        await asyncio.sleep(3)
        before = len(phone.recording.frames())
        phone.microphone.speak(words)
        await asyncio.sleep(8)
        recording = phone.recording
    frames = recording.frames()
    times = aligned(recording, frames)
    seen = []
    for at, frame in zip(times, frames, strict=True):
        luma = small(cv2.cvtColor(frame.image, cv2.COLOR_RGB2YUV)[..., 0]) * (219 / 255) + 16
        seen.append((at - times[before], kinds[int(((known - luma) ** 2).mean((1, 2)).argmin())]))
    assert "nod" not in {kind for at, kind in seen if at < 3.5}
    nods = [at for at, kind in seen if kind == "nod"]
    assert nods and 4 < nods[0] < 8, seen
    assert "away" in {kind for at, kind in seen if at > nods[0]}
