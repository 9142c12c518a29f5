"""Jami, voice and picture by SRTP: it hears the sentence, and its own recording shows the lips move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from testing.card import CardReading, read_card
from tests.calls.test_baresip import dominant
from tests.peers.jami import jami
from tests.peers.namespaces import Namespaces, needed
from tests.peers.pulse import pulse
from tests.support.house import orchestrator, tone
from tests.support.servers import inference_server

pytestmark = [
    pytest.mark.peer("jamid", "gdbus", "pulseaudio", "ip"),
    pytest.mark.process,
    pytest.mark.slow,
]
CORE, BESIDE = "10.78.0.1", "10.78.0.2"


@pytest.fixture
def net() -> Iterator[Namespaces]:
    """Without IPv6, whose addresses PJSIP 2.12 waits for for ever on kernels that tell them in one piece."""
    needed()
    with Namespaces() as namespaces:
        for name in ("core", "beside"):
            namespaces.add(name)
        namespaces.link("core", f"{CORE}/24", "beside", f"{BESIDE}/24")
        namespaces.route("core", BESIDE)
        namespaces.inside(
            "core", "sh", "-c", "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done"
        )
        yield namespaces


def shown(recording: Path) -> list[CardReading]:
    """What the pictures of a recording say."""
    with av.open(str(recording)) as file:
        pictures = [picture.to_ndarray(format="rgb24") for picture in file.decode(video=0)]
    return [card for card in map(read_card, pictures) if card is not None]


async def test_jami_sees_and_hears(tmp_path: Path, net: Namespaces) -> None:
    with net.entered("core"):
        async with (
            inference_server() as server,
            orchestrator([server], sip_host=CORE, srtp="optional") as house,
            pulse(tmp_path / "jami") as sound,
            jami(sound) as phone,
        ):
            ours = await phone.call(f"sip:demo@{CORE}:{house.sip_port}")
            call = await house.call_id()
            view = await house.call(call)
            assert view["audio"] == "opus/48000" and view["video"].startswith("H264 512x512")
            await asyncio.sleep(3.0)
            turn = await house.play(call, [(0.0, tone(12.0, 620.0))])
            await asyncio.sleep(2.0)
            await phone.record(ours)
            await asyncio.sleep(6.0)
            await phone.record(ours)
            assert (await house.turn(call, turn))["heard_ms"] == pytest.approx(12_000, abs=1)
            await phone.hang_up(ours)
            async with asyncio.timeout(10):
                while not (records := (await house.api.get("/v1/records")).json()):
                    await asyncio.sleep(0.05)
            assert (records[0]["cause"], records[0]["srtp"]) == ("bye by peer", True)
            assert records[0]["media"]["audio"]["received_packets"] > 200
            recordings = list((sound.heard.parent / "rec").iterdir())
    assert dominant(sound.heard) == pytest.approx(620, abs=8)
    cards = shown(*recordings)
    mouths = [card.mouth for card in cards if card.mouth is not None]
    frames = [mouth.frame for mouth in mouths]
    assert (
        frames == sorted(frames) and len(set(frames)) >= 3
    )  # its recorder takes what its machine has time for
    assert all(card.mouth.loop_index == card.loop_index for card in cards if card.mouth is not None)
