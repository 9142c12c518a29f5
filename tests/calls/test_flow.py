"""Whole calls: a phone dials in over SIP, hears a turn and sees the test card, read back from its pixels."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from testing.caller import CallFailed, Phone
from testing.card import read_card
from testing.ports import free_port
from tests.support.house import orchestrator, picture, tone
from tests.support.servers import inference_server, running_server
from tests.support.waiting import until
from tests.support.watched import RATE, assert_body_never_jumps, loud, watch
from visavis import portraits

pytestmark = pytest.mark.process


@pytest.mark.slow
@pytest.mark.parametrize(("fps", "delay_ms"), [(25, 0), (25, 140), (25, 290), (30, 0)])
async def test_idle_speech_idle(fps: int, delay_ms: int) -> None:
    """The voice and the mouth come together, whatever the start of the sound does, and the body never jumps."""
    async with inference_server() as server, orchestrator([server], fps=fps) as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            await house.idle_cached(call)
            sound = tone(2.0)
            turn = await house.play(
                call, [(0.0, sound[:2400]), (delay_ms / 1000, sound[2400:16_000]), (0.5, sound[16_000:])]
            )
            assert (await house.turn(call, turn))["heard_ms"] == pytest.approx(2000, abs=1)
            await asyncio.sleep(1.5)
        seen = watch(phone.recording)
        heard = loud(phone.recording) / RATE
        mouths = [s for s in seen if s.card.mouth is not None]
        assert_body_never_jumps(seen, 5 * fps, fps)
        assert len(mouths) >= 0.8 * 2.0 * fps
        assert abs(mouths[0].at - heard[0]) <= 0.081  # the first mouth may come one picture late
        for s in mouths:  # the frame shown is the one whose sound is heard
            assert np.abs(heard - s.at).min() <= 1 / fps + 0.02
        before = next(i for i, s in enumerate(seen) if s.card.mouth is not None)
        assert seen[before].frame.keyframe
        assert len(heard) == pytest.approx(2.0 * RATE, rel=0.12)  # the zero crossings of a tone are quiet
        assert phone.recording.audio.lost == phone.recording.video.lost == 0


async def test_voice_call_without_video() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        async with Phone(house.uri, video=False, codec="PCMA") as phone:
            call = await house.call_id()
            assert (await house.call(call))["video"] is None
            turn = await house.play(call, [(0.0, tone(1.0))])
            await house.turn(call, turn)
            await asyncio.sleep(0.3)
        assert len(phone.recording.video.packets) == 0
        assert len(loud(phone.recording)) > 0.8 * RATE
        stamps = [p.timestamp for p in phone.recording.audio.ordered()]
        assert set(np.diff(stamps)) == {160}


async def test_a_phone_with_no_codec_of_ours_gets_488() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        phone = Phone(house.uri)
        offer = phone._offer

        def foreign() -> str:
            return (
                offer().replace("PCMU/8000", "iLBC/8000").replace(" 0 101", " 97 101").replace(":0 ", ":97 ")
            )

        phone._offer = foreign  # type: ignore[method-assign]
        with pytest.raises(CallFailed, match="488"):
            async with phone:
                pass


async def test_speech_greeting_and_dtmf() -> None:
    """A real voice, spoken on answer; a key pressed by the caller becomes an event."""
    async with inference_server() as server, orchestrator([server], greeting="Good morning.") as house:
        async with house.events() as heard, Phone(house.uri) as phone:
            call = await house.call_id()
            phone.press("7")
            turn = await house.turn(call, 1)
            assert turn["state"] == "finished"
            assert turn["heard_ms"] > 500
            await asyncio.sleep(0.3)
        assert len(loud(phone.recording)) > 0.2 * RATE
        assert any(event["event"] == "dtmf" and event["digit"] == "7" for event in heard)
        assert all("digit" not in line for line in house.log)


async def test_interrupt_stills_mouth_and_voice() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            for _ in range(3):
                turn = await house.play(call, [(0.0, tone(5.0))])
                await asyncio.sleep(1.2)
                await house.api.post(f"/v1/calls/{call}/interrupt")
                over = await house.turn(call, turn)
                assert over["state"] == "interrupted"
                await asyncio.sleep(0.6)
        seen = watch(phone.recording)
        samples = phone.recording.samples()
        assert_body_never_jumps(seen, 125, 25)
        loud_blocks = np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).max(axis=1) > 500
        stops = np.flatnonzero(loud_blocks[:-1] & ~loud_blocks[1:]) + 1
        assert len(stops) == 3
        for stop in stops * 0.02:  # from the moment of silence on, at most the picture that was on its way
            after = [s for s in seen if stop + 0.08 <= s.at < stop + 0.5]
            assert after
            assert all(s.card.mouth is None for s in after)
        heard = [turn["heard_ms"] for turn in (await house.call(call))["turns"]]
        blocks = np.split(loud_blocks, stops)
        for told, block in zip(heard, blocks, strict=False):
            assert told == pytest.approx(20 * block.sum(), abs=21)


async def test_another_face_is_shown_from_the_next_pause_on() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        answer = await house.api.put("/v1/avatars/anna", content=picture(7))
        assert answer.status_code == 200, answer.text
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            first = await house.play(call, [(0.5, tone(1.5))])
            await until(lambda: len(loud(phone.recording)) > 8000)  # it is heard
            nobody = await house.api.put(f"/v1/calls/{call}/avatar", json={"avatar": "nobody"})
            assert (nobody.status_code, "there is no avatar 'nobody'" in nobody.text) == (404, True)
            await house.api.put(f"/v1/calls/{call}/avatar", json={"avatar": "anna"})
            await house.turn(call, first)
            await house.idle_cached(call)
            await asyncio.sleep(1.0)
            second = await house.play(call, [(0.5, tone(1.5))])
            told = await house.turn(call, second)
            await asyncio.sleep(0.4)
            about = await house.call(call)
        assert about["avatar"] == "anna" and told["state"] == "finished"
        cards = [card for frame in phone.recording.frames() if (card := read_card(frame.image)) is not None]
        numbers = list(dict.fromkeys(card.number for card in cards))
        assert len(numbers) == 2  # one after the other
        mouths = [(card.number, card.mouth.number) for card in cards if card.mouth is not None]
        assert {number for number, _ in mouths} == set(numbers)
        assert all(number == mouth for number, mouth in mouths)


@pytest.mark.slow
async def test_ten_calls_do_not_mix() -> None:
    """Each caller sees its own avatar's number and hears its own tone."""
    async with inference_server() as server, orchestrator([server]) as house:
        for n in range(10):
            answer = await house.api.put(f"/v1/avatars/guest{n}", content=picture(n + 1))
            assert answer.status_code == 200, answer.text

        async def caller(n: int) -> tuple[set[int], float]:
            async with Phone(f"sip:guest{n}@127.0.0.1:{house.sip_port}") as phone:
                await asyncio.sleep(0.2)
                calls = (await house.api.get("/v1/calls")).json()
                call = next(c["call_id"] for c in calls if c["dialled"] == f"guest{n}" and not c["ended_at"])
                turn = await house.play(call, [(0.5, tone(1.5, 250.0 + 50 * n))])
                await house.turn(call, turn)
                await asyncio.sleep(0.4)
            numbers, unread = set(), 0
            frames = phone.recording.frames()
            for frame in frames:
                card = read_card(frame.image)
                if card is None:  # a mouth that fades because the machine was late
                    unread += 1
                    continue
                numbers.add(card.number)
                if card.mouth is not None:
                    numbers.add(card.mouth.number)
            assert unread <= 0.25 * len(frames)
            sound = phone.recording.samples()[loud(phone.recording)[0] :][:8192].astype(float)
            spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
            return numbers, float(np.argmax(spectrum) * RATE / len(sound))

        outcome = await asyncio.gather(*(caller(n) for n in range(10)))
    owned = [next(iter(numbers)) for numbers, _ in outcome]
    assert all(len(numbers) == 1 for numbers, _ in outcome)
    assert len(set(owned)) == 10
    for n, (_, hertz) in enumerate(outcome):
        assert hertz == pytest.approx(250 + 50 * n, abs=5)


@pytest.mark.parametrize("size", ["640x480", "1280x720", "300x300"])
async def test_sizes(size: str) -> None:
    width, height = map(int, size.split("x"))
    async with inference_server() as server, orchestrator([server], size=size) as house:
        async with Phone(house.uri, bandwidth=4000) as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.3, tone(1.0))])
            await house.turn(call, turn)
            await asyncio.sleep(0.5)
        seen = watch(phone.recording)
    assert seen[0].frame.image.shape == (height, width, 3)
    assert sum(s.card.mouth is not None for s in seen) >= 15


async def test_no_inference_server_at_all() -> None:
    """Calls are answered with the portrait still and the voice works; then a server comes and so do the lips."""
    port = free_port()
    async with orchestrator([f"127.0.0.1:{port}"], wait=False) as house:
        assert "no inference server answers" in (await house.answering())[0]
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.0, tone(1.0))])
            assert (await house.turn(call, turn))["state"] == "finished"
            still = phone.recording.frames()
            assert len(still) > 20
            async with running_server(port=port):
                await house.ready()
                await asyncio.sleep(0.5)
                turn = await house.play(call, [(0.0, tone(1.0))])
                assert (await house.turn(call, turn))["state"] == "finished"
                await asyncio.sleep(0.3)
        cards = [read_card(frame.image) for frame in phone.recording.frames()]
        assert sum(card is not None and card.mouth is not None for card in cards) >= 15
        steps = np.diff([p.timestamp for p in phone.recording.audio.ordered()])
        assert not (steps % 160).any() and steps.min() == 160
        assert steps.max() <= 0.3 * RATE  # skipped where the machine gives the clock no time for 200 ms
        assert phone.recording.audio.lost == 0


async def test_stop_says_bye_and_exits_zero() -> None:
    async with inference_server() as server, orchestrator([server]) as house, Phone(house.uri) as phone:
        await house.call_id()
        assert await house.stop() == 0
        await asyncio.wait_for(phone.hung_up.wait(), 5)


async def test_a_portrait_is_checked_before_it_is_taken() -> None:
    """Also behind a DNS name: a picture that the engine refuses is refused with its sentence."""
    async with inference_server(engine="portrait") as server:
        port = server.rpartition(":")[2]
        async with orchestrator(
            [f"dns:///localhost:{port}"], portrait=portraits.DEFAULT.read_bytes()
        ) as house:
            answer = await house.api.put("/v1/avatars/noise", content=picture(3))
            assert answer.status_code == 400
            assert "face" in answer.json()["detail"]
            names = [avatar["name"] for avatar in (await house.api.get("/v1/avatars")).json()]
            assert names == ["default", *sorted(portraits.CAST)]
