"""``make run``: what it says when its ports are taken, and what is left of it when it ends in whichever way."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testing.ports import free_port
from tests.support.house import ROOT, START_S


def environment(folder: Path) -> dict[str, str]:
    """Settings of both services on ports of their own."""
    api, sip, grpc, http = (str(free_port()) for _ in range(4))
    own = {name: value for name, value in os.environ.items() if not name.startswith("VISAVIS_")}
    return own | {
        "VISAVIS_SIP_HOST": "127.0.0.1",
        "VISAVIS_SIP_PORT": sip,
        "VISAVIS_API_PORT": api,
        "VISAVIS_AVATAR_SERVERS": f"127.0.0.1:{grpc}",
        "VISAVIS_DATA_DIR": str(folder / "data"),
        "VISAVIS_CACHE_DIR": str(folder / "cache"),
        "VISAVIS_SIZE": "128x128",
        "VISAVIS_INFERENCE_HOST": "127.0.0.1",
        "VISAVIS_INFERENCE_PORT": grpc,
        "VISAVIS_INFERENCE_HTTP_HOST": "127.0.0.1",
        "VISAVIS_INFERENCE_HTTP_PORT": http,
        "VISAVIS_INFERENCE_ENGINE": "mock",
        "VISAVIS_INFERENCE_CACHE_DIR": str(folder / "avatars"),
    }


def running(group: dict[int, str]) -> list[str]:
    """Which of these processes are still there."""
    return [name for pid, name in group.items() if Path(f"/proc/{pid}/cmdline").exists() and _line(pid)]


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def descendants(pid: int) -> dict[int, str]:
    """Every process below one, with its command line."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[int(child)] = _line(int(child)).replace(b"\0", b" ").decode()
        found |= descendants(int(child))
    return found


def await_ready(run: subprocess.Popen[bytes]) -> None:
    assert run.stdout is not None
    said, deadline = b"", time.monotonic() + START_S
    with selectors.DefaultSelector() as selector:
        selector.register(run.stdout, selectors.EVENT_READ)
        while b"Ready" not in said:
            assert time.monotonic() < deadline and run.poll() is None, said
            if selector.select(0.5):
                said += os.read(run.stdout.fileno(), 4096)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_the_services_end_with_it(tmp_path: Path, how: signal.Signals) -> None:
    command, settings = [sys.executable, "-m", "examples.run"], environment(tmp_path)
    with subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        try:
            await_ready(run)
            group = descendants(run.pid)
            assert len(group) == 6, group  # both services, an engine, a media worker, voices, listening
            if how == signal.SIGKILL:
                again = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
                assert again.returncode == 1 and "Ready" not in again.stdout
                for name in ("API", "SIP", "INFERENCE", "INFERENCE_HTTP"):
                    port = settings[f"VISAVIS_{name}_PORT"]
                    assert f"Port {port} is taken" in again.stderr and f"VISAVIS_{name}_PORT" in again.stderr
        finally:
            run.send_signal(how)
        assert run.wait(30) == (-signal.SIGKILL if how == signal.SIGKILL else 0)
        deadline = time.monotonic() + 20
        while left := running(group):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@pytest.mark.process
def test_a_service_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    settings = environment(tmp_path) | {"VISAVIS_INFERENCE_ENGINE": "nothing"}
    command = [sys.executable, "-m", "examples.run"]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "cannot be 'nothing'" in done.stderr and "Ready" not in done.stdout


@pytest.mark.process
@pytest.mark.parametrize(
    ("module", "name", "kind", "status"),
    [
        ("orchestrator", "VISAVIS_SIP_PORT", socket.SOCK_DGRAM, 1),
        ("orchestrator", "VISAVIS_API_PORT", socket.SOCK_STREAM, 1),
        ("inference_server", "VISAVIS_INFERENCE_PORT", socket.SOCK_STREAM, 2),
        ("inference_server", "VISAVIS_INFERENCE_HTTP_PORT", socket.SOCK_STREAM, 2),
    ],
)
def test_a_service_by_itself_names_the_setting_of_a_taken_port(
    tmp_path: Path, module: str, name: str, kind: socket.SocketKind, status: int
) -> None:
    settings = environment(tmp_path)
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", int(settings[name])))
        if kind == socket.SOCK_STREAM:
            other.listen()
        command = [sys.executable, "-m", module]
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)
    said = done.stderr.splitlines()[-1]
    assert done.returncode == status and name in said and settings[name] in said, done.stderr


@pytest.mark.process
def test_it_says_which_port_is_taken(tmp_path: Path) -> None:
    settings = environment(tmp_path)
    port = settings["VISAVIS_INFERENCE_PORT"]
    with socket.create_server(("127.0.0.1", int(port))):
        command = [sys.executable, "-m", "examples.run"]
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Port {port} is taken: end what listens there, or choose another one with VISAVIS_INFERENCE_PORT.",
        "Do the services run already?",
    ]
