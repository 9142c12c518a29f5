"""Tasks that end unseen: they do not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from visavis.service.supervisor import Supervisor


@pytest.fixture(autouse=True)
def thread_hook_as_it_was() -> Iterator[None]:
    before = threading.excepthook
    yield
    threading.excepthook = before


async def test_what_ends_is_logged_counted_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str]] = []
    supervisor = Supervisor(lambda task, reason: told.append((task, reason)), delay_s=0.001)
    runs = 0
    steady = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("a mistake")
        if runs == 2:
            return
        if runs == 3:
            inner = asyncio.create_task(asyncio.sleep(60))
            inner.cancel()
            await inner
        steady.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.ERROR):
        task = supervisor.keep("work", work)
        await asyncio.wait_for(steady.wait(), 5)
    (failure,) = supervisor.failures
    assert (failure.task, failure.count, failure.running) == ("work", 3, True)
    assert [reason for _, reason in told][:2] == [
        "ValueError: a mistake",
        "it returned, which it never should",
    ]
    assert [record.msg for record in caplog.records] == ["task_failed"] * 3
    assert "a mistake" in caplog.text
    await supervisor.close()
    assert task.cancelled()


async def test_what_runs_once_fails_once() -> None:
    supervisor = Supervisor()

    async def fails() -> None:
        raise OSError("no such thing")

    async def ends() -> None:
        pass

    await supervisor.watch("good", ends())
    await supervisor.watch("bad", fails())
    (failure,) = supervisor.failures
    assert (failure.task, failure.count, failure.running) == ("bad", 1, False)
    assert failure.reason == "OSError: no such thing"


async def test_the_pause_grows_while_a_task_keeps_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("visavis.service.supervisor.asyncio.sleep", no_sleep)
    supervisor = Supervisor()

    async def fails() -> None:
        raise ValueError

    task = supervisor.keep("work", fails)
    while len(pauses) < 9:
        await sleep(0)
    task.cancel()
    assert pauses[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_threads_and_forgotten_tasks_are_seen_too(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()
    supervisor.oversee()

    def broken() -> None:
        raise ValueError("in a thread")

    async def forgotten() -> None:
        raise ValueError("in a task")

    thread = threading.Thread(target=broken, name="worker")
    thread.start()
    await asyncio.to_thread(thread.join)
    task = asyncio.create_task(forgotten())
    await asyncio.wait({task})
    del task
    async with asyncio.timeout(5):
        while len(supervisor.failures) < 2:
            await asyncio.sleep(0.001)
    assert [failure.task for failure in supervisor.failures] == ["event loop", "thread worker"]
    assert "in a thread" in caplog.text and "in a task" in caplog.text
