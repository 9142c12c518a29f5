"""A whole call inside a media worker: its avatar, its turn, and what is left of it afterwards."""

from __future__ import annotations

import gc
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

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
from orchestrator.worker.owner import CallContext, WorkerContext
from tests.support.fake_server import HEIGHT, WIDTH, fake_server
from tests.support.media import CardFactory, CardOwner, Phone
from tests.support.waiting import until

pytest_plugins = ["tests.support.media_fixtures"]


def parts_of(call: Any) -> list[Any]:
    performer = call.owner.voice
    streams = [call.session.audio, call.session.video, call.session.video._encoder, performer._stream]
    return [call.session, call.owner, performer, performer.speaker, *streams]


@pytest.mark.usefixtures("stills_in_this_process")
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


class PatientOwner(CardOwner):
    """Its lips come when a test says so."""

    waits = 10.0
    begun = 0

    @property
    def patience(self) -> float:
        return self.waits

    def started(self) -> None:
        self.begun += 1


class PatientFactory(CardFactory):
    """Its owners, in the order of their calls."""

    def __init__(self) -> None:
        self.owners: list[PatientOwner] = []

    def open(self, call: CallContext, start: StartCall) -> PatientOwner:
        self.owners.append(PatientOwner(call, int(start.portrait)))
        return self.owners[-1]


async def test_media_wait_for_their_sign_and_a_while_for_the_first_words_lips(
    host: MediaHost, phone: Phone
) -> None:
    factory = PatientFactory()
    calls = CallTable(host, factory, lambda message: None)
    voice = AudioParameters("PCMU", 0, phone.address("audio"))
    for name in ("ready", "patient", "over", "impatient"):
        calls.take(OpenCall(name, False))
        calls.take(ConfigureCall(name, voice, None))
        calls.take(StartCall(name, "5", sends=False))
    sessions = {name: call.session for name, call in calls._calls.items()}
    ready, patient, over, impatient = factory.owners
    ready.waits, impatient.waits = 0.0, 0.05
    assert not any(session.started for session in sessions.values())
    for name in sessions:
        calls.take(StartCall(name, "5"))
    assert sessions["ready"].started and ready.begun == 1
    calls.take(CloseCall("over"))
    await until(lambda: sessions["impatient"].started)
    assert impatient.begun == 1 and not sessions["patient"].started
    patient.waits = 0.0
    await until(lambda: sessions["patient"].started)
    calls.take(StartCall("patient", "5"))
    assert len(factory.owners) == 4
    assert (patient.begun, over.begun, sessions["over"].started) == (1, 0, False)
    await calls.close()
