"""The example engine, plugged in from outside: a server runs it and draws with it over gRPC."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import numpy as np
import pytest

from examples.custom_engine import LoudnessEngine
from inference_server.engines.discovery import engine_factory
from tests.support.house import tone
from tests.support.servers import inference_server
from visavis import AvatarClient, Frame, ServerPool, portraits
from visavis.client.messages import Event

NAME = "examples.custom_engine:LoudnessEngine"


def test_found_by_module_and_attribute() -> None:
    assert isinstance(engine_factory(NAME)({}), LoudnessEngine)


@pytest.mark.parametrize("fps", [25, 30])
def test_ready_counts_whole_frames(fps: int) -> None:
    track = LoudnessEngine({}).track.__func__  # type: ignore[attr-defined]
    assert track is LoudnessEngine.track
    from examples.custom_engine import LoudnessHandle, LoudnessTrack

    sound = LoudnessTrack(LoudnessHandle(np.zeros((1, 4), np.int32), [b""]), Fraction(fps), 0)
    sound.append(tone(0.99))
    assert sound.ready() == int(0.99 * fps)
    sound.end()
    assert sound.ready() == int(0.99 * fps) + 1


@pytest.mark.process
async def test_a_server_draws_with_it() -> None:
    frames: list[Frame] = []
    over = asyncio.Event()

    def on_event(event: Event) -> None:
        if isinstance(event, Frame):
            frames.append(event)
            if event.last:
                over.set()

    async with inference_server(engine=NAME) as address:
        async with AvatarClient(address) as client:
            avatar = await client.prepare(portraits.DEFAULT.read_bytes(), 320, 240)
        async with ServerPool([address]) as pool:
            await pool.wait_usable(20)
            stream = pool.open(avatar, body_sha256=avatar.body_sha256, on_event=on_event)
            stream.start_turn(1, 1)
            stream.push_audio(tone(0.5))
            stream.end_turn()
            stream.anchor(0, 7)
            stream.playhead(0)
            async with asyncio.timeout(20):
                for sample in range(0, 16_000 * 20, 640):
                    stream.playhead(sample)
                    if over.is_set():
                        break
                    await asyncio.sleep(0.04)
                await over.wait()
            await stream.close()
    mouths = [frame for frame in frames if frame.kind == "mouth"]
    assert len(mouths) >= 8
    assert mouths[0].loop_index == 7
    assert all(frame.rect and frame.pixels and len(frame.pixels) == frame.rect.i420_size for frame in mouths)
