"""The plugins that hold every test to its marks and find what it leaves behind, in a run of their own."""

from __future__ import annotations

import faulthandler
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = """
[pytest]
asyncio_mode = auto
markers =
    process
    peer
    torch
    container
"""
TESTS = """
import asyncio, logging, os, socket, subprocess, sys, threading, tempfile, time
import pytest

KEPT = []
ME = [sys.executable, "-c", "pass"]

def test_clean(tmp_path):
    (tmp_path / "file").write_text("")

@pytest.mark.process
def test_marked():
    subprocess.run(ME, check=True)

def test_starts_unmarked():
    subprocess.run(ME)

def test_starts_and_hides_it():
    try:
        subprocess.run(ME)
    except BaseException:
        pass

async def test_starts_in_a_loop():
    await asyncio.create_subprocess_exec(*ME)

@pytest.fixture(scope="module")
def service():
    process = subprocess.Popen(["sleep", "30"])
    yield process
    process.kill()
    process.wait()

@pytest.mark.process
@pytest.mark.peer
def test_with_a_service(service): pass

@pytest.mark.process
def test_with_a_service_and_half_a_mark(service): pass

def test_with_a_service_and_no_mark(service): pass

@pytest.mark.process
def test_starts_nothing(): pass

@pytest.mark.process
def test_a_peer_unmarked():
    subprocess.run(["true"])

def test_leaves_a_socket():
    KEPT.append(socket.create_server(("127.0.0.1", 0)))

def test_leaves_a_thread():
    KEPT.append(threading.Event())
    threading.Thread(target=KEPT[-1].wait, name="left", daemon=True).start()

def test_leaves_a_file():
    tempfile.mkdtemp(prefix="left")

async def test_leaves_a_task():
    KEPT.append(asyncio.create_task(asyncio.sleep(3600)))

@pytest.mark.process
def test_leaves_a_process():
    KEPT.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(6)"]))

class Closes:
    def __init__(self): self.descriptor = os.open(os.devnull, os.O_RDONLY)
    def __del__(self): os.close(self.descriptor)

@pytest.fixture
def logs_at_its_end():
    yield
    here = Closes()
    try:
        raise ValueError
    except ValueError:
        logging.exception("it")

def test_whose_log_holds_a_traceback(logs_at_its_end): pass

def test_what_takes_a_moment_to_end():
    threading.Thread(target=time.sleep, args=(0.2,)).start()
"""
WRONG = {
    "test_starts_unmarked": r"starts python[\d.]*: mark it @pytest.mark.process",
    "test_starts_and_hides_it": r"starts python[\d.]*: mark it @pytest.mark.process",
    "test_starts_in_a_loop": r"starts python[\d.]*: mark it @pytest.mark.process",
    "test_with_a_service_and_half_a_mark": "starts sleep: mark it @pytest.mark.peer",
    "test_with_a_service_and_no_mark": "starts sleep: mark it @pytest.mark.peer, @pytest.mark.process",
    "test_starts_nothing": "passed without what its marks name: take away process",
    "test_a_peer_unmarked": "starts true: mark it @pytest.mark.peer",
    "test_leaves_a_socket": r"left behind: socket \d+ \(AF_INET SOCK_STREAM",
    "test_leaves_a_thread": "left behind: thread left",
    "test_leaves_a_file": "left behind: file .*/left",
    "test_leaves_a_task": "left behind: task sleep",
    "test_leaves_a_process": r"left behind: process \d+ \(.*time.sleep",
}


@pytest.mark.process
def test_each_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["tests.support.marks", "tests.support.leftovers"]\n'
    )
    (tmp_path / "pytest.ini").write_text(SETTINGS + f"pythonpath = {ROOT}\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    environment = os.environ | {"LEFTOVERS_GRACE_S": "1.5"}
    said = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    ).stdout
    for name, sentence in WRONG.items():
        assert re.search(rf"::{name} {sentence}", said), (name, said)
    failed = set(re.findall(r"^(?:FAILED|ERROR) test_it\.py::(\w+)", said, re.MULTILINE))
    assert failed == set(WRONG), said


@pytest.mark.parametrize("worker", [True, False])
def test_who_waits_for_the_tests_of_others_is_not_said_to_hang(
    monkeypatch: pytest.MonkeyPatch, worker: bool
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda after_s, **_: waits.append(after_s))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    conftest.pytest_unconfigure()
    assert bool(waits) is not worker
