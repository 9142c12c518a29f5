"""Media workers as processes: placed calls, turns for their owners, death and replacement."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import pytest

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.rtp import packet
from orchestrator.rtp.dtmf import event_payloads
from orchestrator.worker import messages
from orchestrator.worker.host import HostSettings
from orchestrator.worker.messages import (
    CallFailed,
    ConfigureCall,
    Digit,
    Heartbeat,
    InterruptTurns,
    StartCall,
    TurnAudio,
    TurnReport,
    WorkerReady,
)
from orchestrator.worker.pool import NoRoom, PoolSettings, WorkerPool
from tests.support.media import Phone
from tests.support.waiting import until
from visavis.client.model import Avatar


class Inbox(list):
    def of(self, kind: type) -> list:
        return [message for message in self if isinstance(message, kind)]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def pool(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerPool]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    setup = messages.Setup(HostSettings(), "tests.support.media:CardFactory")
    pool = WorkerPool(PoolSettings(setup), inbox.append)
    await pool.start()
    yield pool
    await pool.close()


def configured(phone: Phone, call_id: str) -> ConfigureCall:
    return ConfigureCall(
        call_id,
        AudioParameters("PCMU", 0, phone.address("audio"), telephone_event=101),
        VideoParameters(96, phone.address("video"), 192, 128, Fraction(30), feedback=frozenset({"nack pli"})),
    )


@pytest.mark.process
async def test_a_call_in_a_worker_process(pool: WorkerPool, inbox: Inbox) -> None:
    phone = Phone()
    opened = await pool.open_call("a")
    pool.send(configured(phone, "a"))
    pool.send(StartCall("a", "20"))
    pool.send(TurnAudio("a", 7, 2, bytes(6)))
    await until(lambda: inbox.of(TurnReport))
    assert inbox.of(TurnReport)[0] == TurnReport("a", "started", 7, 2, 6)
    for marker, payload in event_payloads("#", 800, 160):
        data = packet.build(packet.RtpPacket(101, 1, 5, 6, payload, marker))
        phone.audio.sendto(data, ("127.0.0.1", opened.audio_port))
    await until(lambda: inbox.of(Digit))
    assert inbox.of(Digit)[0].digit == "#"
    pictures: list[bytes] = []
    await until(lambda: pictures.extend(phone.drain("video")) or pictures)
    stats = await pool.close_call("a")
    assert stats is not None and stats.audio.sent_packets > 0 and stats.video.sent_packets > 0
    assert len(phone.drain("audio")) >= stats.audio.sent_packets - 1
    await until(lambda: inbox.of(Heartbeat) and inbox.of(Heartbeat)[-1].ports == 0)
    assert pool.workers[0].calls == set()
    phone.close()


@pytest.mark.process
async def test_a_worker_leads_a_session_of_its_own(pool: WorkerPool) -> None:
    """Linux gives each session its share of the processors: that of a busy shell is not the media's."""
    pid = pool.workers[0].pid
    assert os.getsid(pid) == pid


@pytest.mark.process
async def test_a_worker_that_dies_is_replaced_and_its_calls_end(pool: WorkerPool, inbox: Inbox) -> None:
    await pool.open_call("a")
    os.kill(pool.workers[0].pid, signal.SIGKILL)
    await until(lambda: inbox.of(CallFailed))
    assert inbox.of(CallFailed)[0].call_id == "a"
    with pytest.raises(NoRoom):
        await pool.open_call("b")
    await until(lambda: len(inbox.of(WorkerReady)) == 2)
    assert (await pool.open_call("c")).audio_port
    assert await pool.close_call("a") is None


@pytest.mark.process
async def test_an_owner_that_fails_harms_nobody_else(pool: WorkerPool, inbox: Inbox) -> None:
    phone = Phone()
    for call_id in ("bad", "good"):
        await pool.open_call(call_id)
        pool.send(configured(phone, call_id))
    pool.send(StartCall("bad", "no such avatar"))
    pool.send(StartCall("good", "5"))
    pool.send(InterruptTurns("good"))
    pool.send(TurnAudio("good", 1, 0))
    await until(lambda: inbox.of(TurnReport))
    assert inbox.of(CallFailed) == [CallFailed("bad", "no such avatar")]
    pool.send(ConfigureCall("good", AudioParameters("speex", 98, phone.address("audio")), None))
    await until(lambda: len(inbox.of(CallFailed)) == 2)
    assert "speex" in inbox.of(CallFailed)[1].reason
    phone.close()


@pytest.mark.process
async def test_a_busy_thread_in_the_control_process_does_not_move_the_clock(
    pool: WorkerPool, inbox: Inbox
) -> None:
    phone = Phone()
    await pool.open_call("a")
    pool.send(configured(phone, "a"))
    pool.send(StartCall("a", "5"))
    await until(lambda: len(inbox.of(Heartbeat)) >= 2)
    phone.drain("audio")
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:  # the control loop is blocked for a second
        sum(range(1000))
    # 50 packets were due; a loaded test machine may delay a few.
    assert 40 <= len(phone.drain("audio")) <= 62
    phone.close()


def test_every_message_survives_the_wire() -> None:
    audio = AudioParameters("opus", 111, ("10.0.0.1", 4000), ("10.0.0.1", 4001), 101, "sendonly", True)
    video = VideoParameters(
        96, ("10.0.0.1", 4002), 640, 480, Fraction(30000, 1001), feedback=frozenset({"nack"})
    )
    avatar = messages.AvatarSettings(("a:1", "b:2"), "/tmp/y", 1 << 30, 640, 480, Fraction(30), 500_000)
    sample = [
        messages.Setup(HostSettings("127.0.0.2", 4000, 5000, "/tmp/x", 2), "a:b", avatar),
        messages.Setup(HostSettings()),
        ConfigureCall("c", audio, video),
        ConfigureCall("c", audio, None),
        StartCall("c", "/data/anna", Fraction(30000, 1001), -40),
        messages.OpenVideo("c"),
        messages.VideoOpened("c", 40_002),
        messages.VideoOpened("c", None),
        messages.CloseVideo("c"),
        TurnAudio("c", 3, 100, bytes(range(256))),
        TurnReport("c", "finished", 3, 120.5),
        messages.LipsFigures("c", messages.LipsStats(10, 2, 1, 40.0, None)),
        messages.AvatarPrepared(
            "/data/anna", Avatar("a", "b", bytes(range(32)), 64, 48, Fraction(25), 50, ((3, 1), (9, 0)))
        ),
        messages.PrepareState(4711, "d1ge57", "failed", "no face"),
        Heartbeat(1, 2, True, 0.5, 2, 0.1, 0.2, 0.3, 1.5),
        messages.Shutdown(),
    ]
    for message in sample:
        assert next(messages.codec.decoder().feed(messages.codec.encode(message))) == message


@pytest.mark.process
async def test_media_that_stays_away_makes_the_process_useless(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pool.stuck == ""
    monkeypatch.setattr("orchestrator.worker.pool.STUCK_SECONDS", 2.0)
    await asyncio.sleep(2.5)  # beats come each second
    assert pool.stuck == ""
    pid = pool.workers[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: "no media worker has been heard" in pool.stuck)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: pool.stuck == "")
