"""baresip calls in: an independent stack hears the sentence and shows the picture."""

from __future__ import annotations

import asyncio
import re
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from testing.card import CardReading, read_card
from tests.peers.baresip import Baresip, baresip
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server

pytestmark = pytest.mark.process


async def read_shot(phone: Baresip) -> CardReading:
    """The card in a snapshot, taken again where it fell on a blend."""
    for _ in range(3):
        image = cv2.imread(str(await phone.snapshot()))
        card = read_card(image[:, :, ::-1])
        if card is not None:
            return card
    raise AssertionError("no snapshot shows a card")


async def established(house: House, phone: Baresip, suffix: str = "") -> str:
    await phone.command("dial", house.uri + suffix)
    await phone.wait("CALL_ESTABLISHED")
    return await house.call_id()


def dominant(path: Path) -> float:
    """The strongest frequency of the loudest second of a recording."""
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[::channels].astype(float)
    starts = range(0, max(1, len(samples) - rate), rate // 4)
    best = max((samples[s : s + rate] for s in starts), key=lambda part: float((part**2).sum()))
    return float(np.argmax(np.abs(np.fft.rfft(best * np.hanning(len(best))))) * rate / len(best))


@pytest.mark.slow
@pytest.mark.peer("baresip", "ffmpeg")
@pytest.mark.parametrize(
    ("codecs", "suffix", "account"),
    [
        ("PCMU/8000/1", "", ""),
        ("PCMA/8000/1", ";transport=tcp", ""),
        ("G722/16000/1", "", ";video_codecs=H264"),  # offers packetization-mode 0 only
        ("opus/48000/2", "", ""),
    ],
)
async def test_baresip_sees_and_hears(tmp_path: Path, codecs: str, suffix: str, account: str) -> None:
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        baresip(tmp_path / "phone", codecs, account=account) as phone,
        house.events() as heard,
    ):
        call = await established(house, phone, suffix)
        view = await house.call(call)
        assert view["audio"].startswith(codecs.split("/")[0])
        assert view["video"].startswith("H264 512x512")
        await asyncio.sleep(1.0)
        idle = await read_shot(phone)
        assert idle.mouth is None
        turn = await house.play(call, [(0.0, tone(5.0, 620.0))])
        await asyncio.sleep(1.2)
        first = await read_shot(phone)
        second = await read_shot(phone)
        assert first.mouth is not None
        assert second.mouth is not None
        assert first.mouth.frame < second.mouth.frame
        assert first.mouth.loop_index == first.loop_index
        await phone.command("sndcode", "5")
        assert (await house.turn(call, turn))["state"] == "finished"
        await asyncio.sleep(0.5)
        shown = await phone.command("video_debug")
        frames = re.search(r"frames=(\d+)", shown)
        assert frames is not None, shown
        assert int(frames[1]) > 100
        media = (await house.call(call))["media"]
        await phone.command("hangup")
        await phone.wait("CALL_CLOSED")
        assert (media["video"]["peer_lost"] or 0) == 0
        assert (media["audio"]["peer_lost"] or 0) == 0
        assert dominant(phone.heard) == pytest.approx(620, abs=8)
        async with asyncio.timeout(10):
            while (await house.call(call))["ended_at"] is None:
                await asyncio.sleep(0.05)
        assert (await house.call(call))["cause"] == "bye by peer"
        assert any(event["event"] == "dtmf" and event["digit"] == "5" for event in heard)


@pytest.mark.slow
@pytest.mark.peer("baresip", "ffmpeg")
@pytest.mark.parametrize(
    ("codecs", "suffix"), [("PCMU/8000/1", ";transport=udp"), ("opus/48000/2", ";transport=tcp")]
)
async def test_we_call_baresip(tmp_path: Path, codecs: str, suffix: str) -> None:
    """An outbound call with video: rings, is picked up, and the first words are heard."""
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        baresip(tmp_path / "phone", codecs, answer="auto") as phone,
    ):
        to = f"sip:alice@127.0.0.1:{phone.sip_port}{suffix}"
        answer = await house.api.post(
            "/v1/calls", json={"to": to, "say": "Good morning, Alice. This is a call."}
        )
        assert answer.status_code == 202, answer.text
        call = answer.json()["call_id"]
        await phone.wait("CALL_ESTABLISHED")
        view = await house.call(call)
        assert (view["direction"], view["audio"].split("/")[0]) == ("out", codecs.split("/")[0])
        assert view["account"] == ""
        assert (await house.turn(call, 1))["state"] == "finished"
        async with asyncio.timeout(2):  # the mouth closes after the last sound
            while (await read_shot(phone)).mouth is not None:
                await asyncio.sleep(0.05)
        answer = await house.api.post(f"/v1/calls/{call}/dtmf", json={"digits": "7"})
        assert answer.status_code == 204, answer.text
        assert (await phone.wait("CALL_DTMF_START"))["param"] == "7"
        await house.api.delete(f"/v1/calls/{call}")
        await phone.wait("CALL_CLOSED")
        with wave.open(str(phone.heard)) as file:
            heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert (np.abs(heard) > 1000).mean() > 0.02
        assert (await house.call(call))["cause"] == "api"


async def test_nobody_there(tmp_path: Path) -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        answer = await house.api.post("/v1/calls", json={"to": "not a uri at all"})
        assert answer.status_code == 409
        to = f"sip:nobody@127.0.0.1:{house.sip_port}"
        answer = await house.api.post("/v1/calls", json={"to": to, "avatar": "zoe"})
        assert (answer.status_code, "there is no avatar" in answer.json()["detail"]) == (409, True)
