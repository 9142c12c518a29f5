"""linphone, the second independent stack: its offer has packetization-mode 0 and no rtcp-fb unless told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.peers.linphone import linphone
from tests.sip.test_baresip import running
from tests.support.sip_fake import Recorder
from tests.support.waiting import until

pytestmark = [pytest.mark.peer("linphonec", "xvfb-run"), pytest.mark.slow, pytest.mark.process]


async def test_linphone_calls(tmp_path: Path) -> None:
    async with running() as (stack, handler), linphone(tmp_path) as phone:
        await phone.say(f"call sip:anna@127.0.0.1:{stack.addresses['UDP'][0][1]}")
        await until(lambda: ("established", "anna") in handler.events, 20)
        (call,) = handler.calls
        assert call.media and call.media.audio and call.media.video
        assert call.media.video.packetization_mode == 0
        assert call.media.audio.voip_metrics
        await phone.say("pause")
        await until(lambda: handler.media and handler.media[-1].on_hold, 20)
        await until(lambda: b"is now paused" in phone.log.read_bytes(), 20)  # only then it can resume
        await phone.say("resume")
        await until(lambda: not handler.media[-1].on_hold, 20)
        await phone.say("terminate")
        await until(lambda: not stack.calls, 20)
        assert handler.cause.by == "peer"


async def test_we_call_linphone_and_hang_up(tmp_path: Path) -> None:
    async with running() as (stack, handler), linphone(tmp_path, "-a") as phone:
        assert isinstance(handler, Recorder)
        call = stack.dial(f"sip:lin@127.0.0.1:{phone.port};transport=udp", handler.caps)
        await until(lambda: call.state == "established", 20)
        assert call.media and call.media.audio
        await asyncio.sleep(0.5)
        call.hangup()
        await until(lambda: not stack.calls)
        await until(lambda: b"ended" in phone.log.read_bytes().lower(), 20)
