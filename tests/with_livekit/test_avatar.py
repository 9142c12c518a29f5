"""A LiveKit agent with a face: the real runner, queue and synchronizer, a room without a network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from testing.card import CardReading
from tests.support.house import tone
from tests.support.servers import running_server, start_inference_server
from tests.with_livekit.room import FPS, RATE, show
from visavis import AvatarSource, ServerPool
from visavis.livekit import VisavisVideoGenerator

pytestmark = pytest.mark.usefixtures("livekit_runtime")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def mouths(cards: list[CardReading | None]) -> list[bool]:
    return [card is not None and card.mouth is not None for card in cards]


@pytest.mark.process
async def test_a_reply_is_heard_whole_with_its_lips() -> None:
    async with running_server() as server, show(server.address) as there:
        await there.until(lambda: len(there.cards) > 10)
        assert not there.sounds and not any(mouths(there.cards))  # idle
        voice = tone(3, rate=RATE)
        await there.say(voice)
        await there.until(lambda: there.finished)
        assert np.array_equal(np.concatenate(there.sounds), voice)
        (end,) = there.finished
        assert (len(there.started), end.interrupted) == (1, False)
        assert end.playback_position == pytest.approx(3.0, abs=0.001)
        assert len(there.sounds) == 3 * FPS
        offsets = there.offsets()
        print(f"{len(offsets)} mouths, offsets {sorted(set(offsets))}")
        assert len(offsets) > 45 and offsets.count(0) >= 0.95 * len(offsets)
        closed = len(there.cards) + 12
        await there.until(lambda: len(there.cards) > closed)
        assert not mouths(there.cards)[-1]
        rate = (len(there.captured) - 1) / (there.captured[-1] - there.captured[0])
        print(f"{rate:.2f} pictures a second")
        assert 0.8 * FPS < rate < 1.1 * FPS


@pytest.mark.process
async def test_an_interruption_is_told_as_livekit_counts_it() -> None:
    async with running_server() as server, show(server.address) as there:
        await there.say(tone(6, rate=RATE), end=False)
        await there.until(lambda: len(there.sounds) >= 37)
        there.output.clear_buffer()
        there.output.flush()
        await there.until(lambda: there.finished)
        heard, cut = sum(map(len, there.sounds)), len(there.cards)
        (end,) = there.finished
        assert end.interrupted and end.playback_position == pytest.approx(heard / RATE, abs=0.041)
        await there.until(lambda: len(there.cards) > cut + 10)
        assert sum(map(len, there.sounds)) == heard and not any(mouths(there.cards[cut + 2 :]))
        await there.say(tone(1, rate=RATE))
        await there.until(lambda: len(there.finished) == 2)
        assert not there.finished[1].interrupted
        # LiveKit's runner counts a frame that was on its way at the cut to what follows.
        assert there.finished[1].playback_position in (
            pytest.approx(1.0, abs=0.001),
            pytest.approx(1.04, abs=0.001),
        )
        assert len(there.started) == 2


@pytest.mark.process
async def test_a_voice_of_another_rate_is_as_long() -> None:
    async with running_server() as server, show(server.address) as there:
        await there.say(tone(1, rate=48_000), rate=48_000)
        await there.until(lambda: there.finished)
        assert sum(map(len, there.sounds)) == RATE


@pytest.mark.process
@pytest.mark.slow
async def test_a_lost_server_costs_lips_and_never_the_voice(tmp_path: Path) -> None:
    server = await start_inference_server(cache_dir=tmp_path / "server")
    again = None
    try:
        async with show(server.address) as there:
            voice = tone(14, rate=RATE)
            await there.say(voice)
            await there.until(lambda: len(there.offsets()) > 10)
            server.kill()
            await server.process.wait()
            port = int(server.address.rpartition(":")[2])
            again = await start_inference_server(cache_dir=tmp_path / "server", port=port)
            without = len(there.offsets())
            await there.until(lambda: there.finished)
            assert np.array_equal(np.concatenate(there.sounds), voice)
            assert there.finished[0].playback_position == pytest.approx(14.0, abs=0.001)
            assert len(there.offsets()) > without + 25 and there.offsets()[-1] == 0
    finally:
        for one in (server, again):
            if one is not None:
                one.kill()
                await one.process.wait()
                if one.follower is not None:
                    await one.follower


@pytest.mark.process
async def test_two_agents_of_one_pool_do_not_mix() -> None:
    async with (
        running_server() as server,
        ServerPool(f"http://127.0.0.1:{server.http_port}") as pool,
        show(pool, 1) as one,
        show(pool, 2) as two,
    ):
        await asyncio.gather(one.say(tone(2, 300, RATE)), two.say(tone(2, 900, RATE)))
        await one.until(lambda: one.finished and two.finished)
        numbers = []
        for there, hertz in ((one, 300), (two, 900)):
            assert np.array_equal(np.concatenate(there.sounds), tone(2, hertz, RATE))
            assert len(there.offsets()) > 20
            (number,) = {card.number for card in there.cards if card is not None}
            numbers.append(number)
        assert numbers[0] != numbers[1]


async def test_a_generator_that_is_not_open_says_so() -> None:
    generator = VisavisVideoGenerator("127.0.0.1:1", AvatarSource(b""))
    with pytest.raises(RuntimeError, match="async with"):
        generator.clear_buffer()
