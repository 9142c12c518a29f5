"""A whole call inside a media worker: its avatar, its turn, and what is left of it afterwards."""

from __future__ import annotations

import gc
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any

from orchestrator.avatar.owner import make
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.worker.calls import CallTable
from orchestrator.worker.host import MediaHost
from orchestrator.worker.messages import (
    AvatarSettings,
    AvatarState,
    CallClosed,
    CloseCall,
    ConfigureCall,
    Message,
    OpenCall,
    StartCall,
    StartTurn,
    TurnAudio,
)
from orchestrator.worker.owner import WorkerContext
from tests.support.fake_server import HEIGHT, WIDTH, fake_server
from tests.support.media import Phone
from tests.support.waiting import until

pytest_plugins = ["tests.support.media_fixtures"]


def parts_of(call: Any) -> list[Any]:
    performer = call.owner.voice
    streams = [call.session.audio, call.session.video, call.session.video._encoder, performer._stream]
    return [call.session, call.owner, performer, performer.speaker, *streams]


async def test_a_call_that_is_over_is_free_without_the_garbage_collector(
    host: MediaHost, phone: Phone, tmp_path: Path
) -> None:
    said: list[Message] = []
    portrait = tmp_path / "anna"
    portrait.write_bytes(b"image of anna")
    factory = make()
    async with fake_server() as server:
        settings = AvatarSettings(
            (server.address,), str(tmp_path), 1 << 20, WIDTH, HEIGHT, Fraction(25), 200_000
        )
        await factory.start(WorkerContext(host, lambda message: None, settings))
        calls = CallTable(host, factory, said.append)
        try:
            calls.take(OpenCall("a", True))
            calls.take(
                ConfigureCall(
                    "a",
                    AudioParameters("PCMU", 0, phone.address("audio")),
                    VideoParameters(96, phone.address("video"), WIDTH, HEIGHT, Fraction(25)),
                )
            )
            calls.take(StartCall("a", str(portrait)))
            await until(lambda: any(isinstance(m, AvatarState) and m.state == "connected" for m in said))
            second = bytes(2 * 16000), bytes(2 * 8000)
            calls.take(StartTurn("a", 1))
            calls.take(TurnAudio("a", 1, len(second[0]), b"".join(second)))
            await until(lambda: calls._calls["a"].session.stats(0.0).pictures_live > 3)
            traces = [weakref.ref(part) for part in parts_of(calls._calls["a"])]
            gc.collect()
            gc.disable()
            calls.take(CloseCall("a"))
            assert any(isinstance(message, CallClosed) for message in said)
            await until(lambda: not any(trace() for trace in traces))
        finally:
            gc.enable()
            await calls.close()
            await factory.close()
