"""Exceptions that nobody handles reach the log, wherever they are raised."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from orchestrator.avatar import avatars as avatars_module
from orchestrator.avatar.avatars import WorkerAvatars
from orchestrator.avatar.source import PortraitFile
from visavis.service.unhandled import logged

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import asyncio, gc, threading
from concurrent.futures import ThreadPoolExecutor
from visavis.service.logs import configure_logging
from visavis.service.unhandled import log_loop, log_threads, logged

def fail():
    raise TypeError("a mistake")

async def fail_later():
    fail()

async def main():
    log_loop(asyncio.get_running_loop())
    asyncio.get_running_loop().call_soon(fail)
    logged(asyncio.create_task(fail_later()), "kept")
    asyncio.create_task(fail_later())
    await asyncio.sleep(0.01)
    gc.collect()

configure_logging()
log_threads()
thread = threading.Thread(target=fail, name="one")
thread.start()
thread.join()
with ThreadPoolExecutor(1) as pool:
    logged(pool.submit(fail), "in a pool")
asyncio.run(main())
"""


@pytest.mark.process
def test_each_is_one_line_with_its_trace() -> None:
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lines = [json.loads(line) for line in told.stderr.splitlines()]
    assert sorted((line["event"], line.get("thread") or line["work"][:9]) for line in lines) == [
        ("loop_failed", "<Handle f"),
        ("loop_failed", "<Task fin"),
        ("thread_failed", "one"),
        ("work_failed", "in a pool"),
        ("work_failed", "kept"),
    ]
    assert all("TypeError: a mistake" in line["error"] and line["level"] == "error" for line in lines)


async def test_what_is_cancelled_or_ends_well_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    waiting = logged(asyncio.create_task(asyncio.sleep(60)), "waiting")
    await asyncio.sleep(0)
    waiting.cancel()
    with ThreadPoolExecutor(1) as pool:
        assert await asyncio.wrap_future(logged(pool.submit(int, "7"), "number")) == 7
    await asyncio.gather(waiting, return_exceptions=True)
    assert not caplog.records


async def test_a_mistake_in_the_still_portrait_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a library's version that lacks an argument: calls showed grey, and nothing told why."""

    def still_body(*_: object) -> None:
        raise TypeError("got an unexpected keyword argument")

    monkeypatch.setattr(avatars_module, "still_body", still_body)
    avatars = WorkerAvatars(["127.0.0.1:9"], tmp_path, 1 << 20, lambda *_: None)
    with pytest.raises(TypeError):
        await avatars.still(PortraitFile.now(tmp_path / "none", 64, 64, Fraction(25), "crop"))
    await asyncio.sleep(0)
    assert [record.msg for record in caplog.records] == ["work_failed"]
    assert caplog.records[0].exc_info
    await avatars.close()


def test_no_work_is_begun_and_forgotten() -> None:
    """A future that nobody keeps takes its exception along."""
    begins = {"submit", "create_task", "ensure_future", "run_coroutine_threadsafe", "run_in_executor"}
    for package in ("visavis", "orchestrator", "inference_server"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                    function = node.value.func
                    name = function.attr if isinstance(function, ast.Attribute) else ""
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    forgotten = name in begins and ast.unparse(function) != "self._encoder.submit"
                    assert not forgotten, f"{where}: {name} in logged(...), of visavis.service.unhandled"
