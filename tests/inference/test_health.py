"""Health as it is told: by the latest word, with failures in the log, and to the end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from inference_server.frontends.health import SERVICE, Health
from visavis.service.logs import Log

READY = health_pb2.HealthCheckResponse.SERVING
NOT_READY = health_pb2.HealthCheckResponse.NOT_SERVING


class Servicer:
    """Remembers what it is told; fails or waits where it is asked to."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def set(self, service: str, status: int) -> None:
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("no such watcher")
        self.told[service] = status


@pytest.fixture
def servicer(monkeypatch: pytest.MonkeyPatch) -> Servicer:
    servicer = Servicer()
    aio: Any = SimpleNamespace(HealthServicer=lambda: servicer)
    monkeypatch.setattr("inference_server.frontends.health.health.aio", aio)
    return servicer


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_latest_word_counts(servicer: Servicer) -> None:
    health = Health(Log("inference_server"))
    for ready in (True, False, True):
        health.tell(ready)
    await settle()
    assert servicer.told == {"": READY, SERVICE: READY}


async def test_a_word_that_cannot_be_told_is_logged(
    servicer: Servicer, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health(Log("inference_server"))
    servicer.fails = True
    health.tell(True)
    await settle()
    (line,) = caplog.records
    assert (line.message, vars(line)["fields"]) == ("health_not_told", {"ready": True})
    assert line.exc_info is not None and "no such watcher" in str(line.exc_info[1])


async def test_a_word_on_its_way_does_not_outlive_the_server(servicer: Servicer) -> None:
    health = Health(Log("inference_server"))
    before = asyncio.all_tasks()
    servicer.gate.clear()
    health.tell(True)
    await settle()
    assert len(asyncio.all_tasks() - before) == 1
    closing = asyncio.create_task(health.close())
    await settle()
    assert asyncio.all_tasks() - before == {closing}
    servicer.gate.set()
    await closing
    assert servicer.told == {"": NOT_READY, SERVICE: NOT_READY}
