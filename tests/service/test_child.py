"""Processes of ours: watched by a fake clock, and real ones that die, hang, are stopped or lose their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.child import Do, Hello, Message, Said, Stop, codec
from visavis.service import child as module
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child, ChildLost, KeptChild, Program, Silence
from visavis.service.supervisor import BackOff, Supervisor

PROGRAM = Program[Message]("parrot", "tests.support.child", codec, hello=Hello, start_s=30.0, silence_s=30.0)


def test_a_process_has_one_time_to_start_and_another_to_stay_silent() -> None:
    silence = Silence(replace(PROGRAM, start_s=60.0, silence_s=10.0), 100.0)
    silence.heard(Said("loading"), 150.0)
    assert silence.verdict(160.0) == "" and not silence.greeted
    assert silence.verdict(160.1) == "the parrot was not ready for 60 s"
    silence.heard(Hello(1), 160.0)
    assert silence.greeted and silence.verdict(170.0) == ""
    silence.heard(Said("here"), 165.0)
    assert silence.verdict(175.0) == ""
    assert silence.verdict(175.1) == "the parrot said nothing for 10 s"
    patient = Silence(replace(PROGRAM, hello=None, silence_s=None), 0.0)
    assert patient.greeted and patient.verdict(1e9) == ""


def test_pauses_double_and_begin_anew_after_a_steady_run() -> None:
    back_off = BackOff(0.2, 1.0, 30.0)
    assert [back_off.pause(ran) for ran in (0, 1, 2, 30, 31, 0)] == [0.2, 0.4, 0.8, 1.0, 0.2, 0.4]


class Kept:
    """A parrot that is kept, and what was told of it."""

    def __init__(self, program: Program[Message], supervisor: Supervisor) -> None:
        self.pids: list[int] = []
        self.messages: list[Message] = []
        self.reads: list[int] = []
        self.ends: list[tuple[str, float]] = []
        self.give_up = ""
        self._news = asyncio.Event()
        self.process = KeptChild(
            program,
            BackOff(0.01, 0.02, 60.0),
            on_start=self._started,
            on_message=self._take,
            on_read=lambda: self.reads.append(len(self.messages)),
            on_end=self._ended,
        )
        self.process.start(supervisor)

    def _started(self, child: Child[Message]) -> None:
        self.pids.append(child.pid or 0)
        child.send(Do("first"))

    def _take(self, message: Message) -> None:
        self.messages.append(message)
        self._news.set()
        if self.give_up and message == Said(self.give_up):
            raise ChildLost("it said what it must not")
        if message == Said("mistake"):
            raise KeyError("a mistake of ours")

    def _ended(self, reason: str, pause: float) -> None:
        self.ends.append((reason, pause))
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def lives(self, number: int) -> None:
        """Until so many processes have greeted."""
        await self.until(lambda: sum(isinstance(each, Hello) for each in self.messages) == number)


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(delay_s=0.01)
    yield supervisor
    await supervisor.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)


def kill(kept: Kept) -> None:
    os.kill(kept.pids[-1], signal.SIGKILL)


@pytest.mark.process
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (kill, "the parrot process was killed by SIGKILL"),
        (lambda kept: kept.process.send(Do("exit 3")), "the parrot process ended with code 3"),
        (lambda kept: kept.process.send(Do("shut")), "the parrot: the channel was closed"),
        (lambda kept: kept.process.send(Do("noise")), "the parrot: nonsense on the channel: a message of "),
        (lambda kept: kept.process.send(Do("bad word")), "it said what it must not"),
    ],
    ids=["killed", "exits", "shuts", "noise", "given up"],
)
async def test_a_process_that_ends_is_told_with_its_reason_and_replaced(
    supervisor: Supervisor, how: Callable[[Kept], Any], reason: str
) -> None:
    kept = Kept(PROGRAM, supervisor)
    kept.give_up = "bad word"
    await kept.until(lambda: Said("first") in kept.messages)
    how(kept)
    await kept.lives(2)
    assert len(kept.ends) == 1 and kept.ends[0][0].startswith(reason) and kept.ends[0][1] == 0.01
    await kept.until(lambda: kept.messages.count(Said("first")) == 2)
    assert kept.pids[0] != kept.pids[1] == kept.process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(kept.pids[0], 0)
    assert supervisor.failures == []
    await kept.process.close()


@pytest.mark.process
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_silent_process_is_replaced(supervisor: Supervisor, stopped: bool) -> None:
    kept = Kept(replace(PROGRAM, silence_s=0.3), supervisor)
    await kept.lives(1)
    if stopped:
        os.kill(kept.pids[0], signal.SIGSTOP)
    await kept.until(lambda: kept.ends)
    assert kept.ends[0][0] == "the parrot said nothing for 0.3 s"
    await kept.lives(2)
    await kept.process.close()


@pytest.mark.process
async def test_pings_keep_a_process_that_answers_them(supervisor: Supervisor) -> None:
    kept = Kept(replace(PROGRAM, silence_s=0.5, ping=lambda: Do("ping")), supervisor)
    await kept.until(lambda: kept.messages.count(Said("ping")) > 20)
    assert kept.ends == []
    kept.process.send(Do("hang"))
    await kept.until(lambda: kept.ends)
    await kept.process.close()


@pytest.mark.process
async def test_a_process_that_never_greets_is_replaced(supervisor: Supervisor) -> None:
    kept = Kept(replace(PROGRAM, arguments=("--mute",), start_s=0.2, ping=lambda: Do("ping")), supervisor)
    await kept.until(lambda: len(kept.ends) == 2)
    assert {reason for reason, _ in kept.ends} == {"the parrot was not ready for 0.2 s"}
    assert [pause for _, pause in kept.ends] == [0.01, 0.02]
    await kept.process.close()


@pytest.mark.process
async def test_a_program_that_is_not_there_is_tried_again(supervisor: Supervisor) -> None:
    kept = Kept(replace(PROGRAM, module="tests.support.nothing"), supervisor)
    await kept.until(lambda: len(kept.ends) == 2)
    assert kept.ends[0][0] == "the parrot process ended with code 1"
    await kept.process.close()


@pytest.mark.process
async def test_a_mistake_of_ours_is_counted_and_the_process_replaced(supervisor: Supervisor) -> None:
    kept = Kept(PROGRAM, supervisor)
    await kept.lives(1)
    kept.process.send(Do("mistake"))
    await kept.lives(2)
    (failure,) = supervisor.failures
    assert (failure.task, failure.count) == ("parrot", 1) and "a mistake of ours" in failure.reason
    assert kept.ends[0][0] == "a mistake of ours has ended the parrot"
    await kept.process.close()


@pytest.mark.process
async def test_messages_that_come_together_are_taken_together_and_nonsense_costs_none(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(PROGRAM, supervisor)
    await kept.until(lambda: Said("first") in kept.messages)
    kept.process.send(Do("nonsense"))
    await kept.until(lambda: Said("after") in kept.messages)
    assert "message_not_understood" in [record.msg for record in caplog.records]
    before = len(kept.messages)
    kept.process.send(Do("burst"))
    await kept.until(lambda: len(kept.messages) == before + 5)
    assert kept.reads[-2:] == [before, before + 5]
    kept.process.send(Do("large", bytes(3 << 20)))
    await kept.until(lambda: kept.messages[-1] == Said("large", bytes(3 << 20)))
    await kept.process.close()


@pytest.mark.process
@pytest.mark.parametrize("hangs", [False, True])
async def test_the_end_is_asked_for_and_then_forced(supervisor: Supervisor, hangs: bool) -> None:
    kept = Kept(replace(PROGRAM, stop_s=0.3), supervisor)
    await kept.lives(1)
    if hangs:
        kept.process.send(Do("hang"))
    began = time.monotonic()
    await kept.process.close(Stop())
    assert (time.monotonic() - began >= 0.3) == hangs
    with pytest.raises(ProcessLookupError):
        os.kill(kept.pids[0], 0)
    with pytest.raises(ChannelClosed):
        kept.process.send(Do("echo"))
    assert kept.ends == [] and supervisor.failures == []


@pytest.mark.process
async def test_closed_before_it_has_started(supervisor: Supervisor) -> None:
    kept = Kept(PROGRAM, supervisor)
    for _ in range(3):
        await asyncio.sleep(0)
    await kept.process.close(Stop())
    assert kept.ends == []


PARENT = """
import asyncio, sys
from tests.service.test_child import PROGRAM, replace
from visavis.service.child import Child
from tests.support.child import Do

async def main():
    child = Child(replace(PROGRAM, arguments=("--grace", sys.argv[1])))
    await child.start()
    await child.receive()
    child.send(Do(sys.argv[2]))
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.process
@pytest.mark.parametrize(("grace", "what"), [("0", "echo"), ("0", "hang"), ("5", "echo"), ("0.3", "hang")])
def test_a_process_ends_with_its_parent(grace: str, what: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, grace, what], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)  # reach the whole group: the parent's to answer
        time.sleep(0.1)
        os.kill(pid, 0)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while running(pid):
            assert time.monotonic() < deadline, "it lives on"
            time.sleep(0.01)


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
