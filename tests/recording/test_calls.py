"""Recordings of real calls, decoded back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testing.caller import Phone
from testing.caller.recording import START_CODE
from testing.ports import free_port
from tests.recording.support import Played, onset, played
from tests.support.credentials import api_tokens
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow]
PHONE_RATES = {"PCMU": 8000, "opus": 48_000}


async def parts(house: House, call: str, count: int = 1) -> list[dict[str, Any]]:
    """The recording's parts, the oldest first, when so many are over."""
    async with asyncio.timeout(30):
        while True:
            found = (await house.api.get(f"/v1/recordings?call_id={call}")).json()[::-1]
            if len(found) >= count and not any(part["state"] == "recording" for part in found):
                return found  # type: ignore[no-any-return]
            await asyncio.sleep(0.1)


async def downloaded(house: House, recording_id: str) -> Played:
    answer = await house.api.get(f"/v1/recordings/{recording_id}/media")
    assert answer.headers["content-type"] == "video/mp4"
    return played(answer.content)


def units_of(phone: Phone) -> list[tuple[list[bytes], float]]:
    """Every picture that the phone was sent, as NAL units, and when it was due by the sender's clock."""
    video = phone.recording.video
    return [
        (data.split(START_CODE)[1:], video.sender_time(timestamp))
        for data, timestamp, _ in phone.recording.access_units()
    ]


def voice_onset(phone: Phone, hertz: float) -> float:
    """When a tone begins in what the phone was sent, by the sender's clock."""
    audio = phone.recording.audio
    first = audio.ordered()[0].timestamp
    at = onset(phone.recording.samples(), hertz, phone.recording.rate)
    return audio.sender_time(first) + at


@pytest.mark.parametrize("codec", ["PCMU", "opus"])
async def test_what_was_sent_is_what_was_recorded(codec: str) -> None:
    """Both voices at their time, pictures bit for bit, across a re-INVITE to another size."""
    async with inference_server() as server, orchestrator([server], recording="every") as house:
        async with house.events() as events:
            async with Phone(house.uri, codec=codec) as phone:
                call = await house.call_id()
                await house.idle_cached(call)
                turn = await house.play(call, [(0.0, tone(1.0, 1000))])
                await house.turn(call, turn)
                phone.microphone.speak(tone(1.0, 500, PHONE_RATES[codec]))
                await asyncio.sleep(1.5)
                offer = phone._offer
                phone._offer = lambda direction="sendrecv": offer(direction).replace("42e01f", "42e00b")  # type: ignore[method-assign]
                await phone.renegotiate("sendrecv")
                turn = await house.play(call, [(0.0, tone(1.0, 1500))])
                await house.turn(call, turn)
                await asyncio.sleep(1.0)
            first, second = await parts(house, call, 2)
            await _until(events, "recording_stopped")
        movies = [await downloaded(house, part["recording_id"]) for part in (first, second)]
        kinds = [event["event"] for event in events if event["event"].startswith("recording")]
    assert kinds == ["recording_started", "recording_stopped"]
    assert [part["state"] for part in (first, second)] == ["whole", "whole"]
    assert first["width"] == 512 > second["width"] > 0
    sent = units_of(phone)
    for movie, hertz in zip(movies, (1000, 1500), strict=True):
        at = next(number for number, (units, _) in enumerate(sent) if units == movie.units[0])
        those = sent[at : at + len(movie.units)]
        assert len(those) > 20 and len(movie.units) - len(those) < 4  # which left as the phone hung up
        assert [units for units, _ in those] == movie.units[: len(those)]
        began = those[1][1] - movie.times[1]
        times = movie.times[1 : len(those)]  # the first stands from the beginning of the sound on
        assert times == pytest.approx([due - began for _, due in those[1:]], abs=0.002)
        # the offset of sound to picture, in the file and by the sender's clock
        assert onset(movie.tracks["avatar"], hertz) == pytest.approx(
            voice_onset(phone, hertz) - began, abs=0.015
        )
        assert onset(movie.tracks["both"], hertz) == pytest.approx(
            onset(movie.tracks["avatar"], hertz), abs=0.005
        )
    said, heard = phone.recording.said_meanwhile(), phone.recording.samples()
    rate = phone.recording.rate
    spoken = onset(said, 500, rate) - onset(heard, 1000, rate)
    caller, avatar = (movies[0].tracks[name] for name in ("caller", "avatar"))
    late = onset(caller, 500) - onset(avatar, 1000) - spoken
    assert (
        0 < late < 1.0
    )  # the way of both, our jitter buffer, and a phone that a busy machine lets speak late
    assert np.abs(avatar).max() > 3000 < np.abs(caller).max()
    gap = second["began_at"] - first["began_at"] - first["seconds"]
    assert abs(gap) < 0.1


async def test_a_recorder_that_is_killed_costs_two_seconds_and_no_call() -> None:
    async with inference_server() as server, orchestrator([server], recording="every") as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            await house.idle_cached(call)
            turn = await house.play(call, [(0.0, tone(4.0, 1000))])
            await asyncio.sleep(3.5)
            (recorder,) = [pid for pid in children(house) if "orchestrator.recording.process" in pid[1]]
            os.kill(recorder[0], signal.SIGKILL)
            assert (await house.turn(call, turn))["state"] == "finished"
            await asyncio.sleep(3.0)
            turn = await house.play(call, [(0.0, tone(0.5, 700))])
            await house.turn(call, turn)
        assert phone.recording.audio.lost == 0
        first, second = await parts(house, call, 2)
        left, rest = [await downloaded(house, part["recording_id"]) for part in (first, second)]
    assert [part["state"] for part in (first, second)] == ["cut", "whole"]
    sent = units_of(phone)
    at = next(number for number, (units, _) in enumerate(sent) if units == left.units[0])
    assert left.units == [units for units, _ in sent[at : at + len(left.units)]] and len(left.units) > 25
    assert len(left.tracks["avatar"]) / 16_000 > first["seconds"] - 2.5
    assert onset(left.tracks["avatar"], 1000) > 0 and onset(rest.tracks["avatar"], 700) > 0
    assert second["began_at"] - first["began_at"] - first["seconds"] < 5.0  # a busy machine starts it slowly
    lost = [line for line in house.log if line["event"] == "recorder_lost"]
    assert len(lost) == 1 and lost[0]["calls"] == 1


def children(house: House) -> list[tuple[int, str]]:
    """Processes of this orchestrator: pid and command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                line = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue  # gone
            if parent == house.process.pid:
                found.append((int(entry.name), line))
    return found


async def test_the_api_records_a_voice_call_encrypted_and_a_key_pauses_it(tmp_path: Path) -> None:
    """Nobody's inference server: a still face, or none. The caller pauses, says a secret, and goes on."""
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32).hex().encode())
    folder = tmp_path / "recordings"
    settings = {
        "recording_key_file": key, "recordings_dir": folder, "recording_pause_key": "*", "recording_tone": True,
        "recording_announcement": "This call is recorded.",
    }  # fmt: skip
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False, **settings) as house:
        await house.answering()
        async with Phone(house.uri, video=False) as phone, house.events() as events:
            call = await house.call_id()
            path = f"/v1/calls/{call}/recording"
            assert (await house.api.get(path)).json() == {"state": "off"}
            assert (await house.api.patch(path, json={"paused": True})).status_code == 409
            assert (await house.api.post(path)).json() == {"state": "recording"}
            assert (await house.api.post(path)).status_code == 409
            await _until(events, "recording_started")
            await _until(events, "turn_finished", 2)  # the tone, and what was announced
            phone.microphone.speak(tone(0.5, 500, 8000))
            await asyncio.sleep(1.0)
            phone.press("*")
            await _until(events, "recording_paused")
            assert (await house.api.get(path)).json() == {"state": "paused"}
            phone.microphone.speak(tone(1.0, 900, 8000))
            await asyncio.sleep(1.5)
            phone.press("*")
            await _until(events, "recording_resumed")
            phone.microphone.speak(tone(0.5, 700, 8000))
            await asyncio.sleep(1.0)
            assert (await house.api.delete(path)).status_code == 204
            await _until(events, "recording_stopped")
            (part,) = await parts(house, call)
            assert (await house.api.delete(path)).status_code == 409
        assert part["encrypted"] and part["width"] == 0
        movie = await downloaded(house, part["recording_id"])
        caller = movie.tracks["caller"]
        assert power(caller, 500) > 20 * power(caller, 900) and power(caller, 700) > 20 * power(caller, 900)
        ours = movie.tracks["avatar"]
        assert power(ours, 1400) > 1e6 and np.abs(ours).max() > 4000  # the tone has 3000
        file = folder / f"{part['recording_id']}.mp4"
        assert b"ftyp" not in file.read_bytes() and file.stat().st_mode & 0o077 == 0
        media = f"/v1/recordings/{part['recording_id']}/media"
        whole = (await house.api.get(media)).content
        ranged = await house.api.get(media, headers={"range": f"bytes=1000-{len(whole) - 1}"})
        assert (ranged.status_code, ranged.content) == (206, whole[1000:])
        last = await house.api.get(media, headers={"range": "bytes=-10"})
        assert last.content == whole[-10:] and last.headers["content-range"].endswith(f"/{len(whole)}")
        assert (await house.api.get(media, headers={"range": f"bytes={len(whole)}-"})).status_code == 416
        assert (await house.api.delete(f"/v1/records/{call}")).status_code == 204
        assert not file.exists() and (await house.api.get("/v1/recordings")).json() == []
        lines = [line for line in house.log if str(line.get("event", "")).startswith("recording")]
    assert {line["call"] for line in lines} == {call}


def power(pcm: Any, hertz: float) -> float:
    """Of a tone in all of a sound."""
    return float(np.abs(np.exp(-2j * np.pi * hertz * np.arange(len(pcm)) / 16_000) @ pcm))


async def _until(events: list[dict[str, Any]], kind: str, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while sum(event["event"] == kind for event in events) < count:
            await asyncio.sleep(0.05)


async def test_an_orchestrator_that_ends_closes_its_files_and_one_that_is_killed_leaves_them_readable(
    tmp_path: Path,
) -> None:
    api_tokens(tmp_path)
    settings = {"recording": "every", "data_dir": tmp_path}
    nobody = [f"127.0.0.1:{free_port()}"]
    async with orchestrator(nobody, wait=False, **settings) as house:
        await house.answering()
        async with Phone(house.uri, video=False) as phone:
            stopped = await house.call_id()
            await _written(tmp_path / "recordings" / f"{stopped}-1.mp4")
            assert await house.stop() == 0
            await asyncio.wait_for(phone.hung_up.wait(), 5)
    async with orchestrator(nobody, wait=False, **settings) as house:
        await house.answering()
        async with Phone(house.uri, video=False):
            killed = await house.call_id()
            await _written(tmp_path / "recordings" / f"{killed}-1.mp4")
            house.process.kill()
            await house.process.wait()
    async with orchestrator(nobody, wait=False, **settings) as house:
        await house.answering()
        (one,) = await parts(house, stopped)
        (two,) = await parts(house, killed)
        assert (one["state"], two["state"]) == ("whole", "cut")
        for part in (one, two):
            movie = await downloaded(house, part["recording_id"])
            assert len(movie.tracks["both"]) > 16_000 and part["seconds"] > 1.0


async def _written(file: Path) -> None:
    """Until some fragments are."""
    async with asyncio.timeout(30):
        while not file.exists() or file.read_bytes().count(b"moof") < 3:
            await asyncio.sleep(0.1)
