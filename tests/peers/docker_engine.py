"""A real container engine for tests: the one of ``DOCKER_HOST``, the machine's own, or one started here."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import docker
import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE_IMAGE = "python:3.11-slim"
SYSTEM_SOCKET = "unix:///var/run/docker.sock"
PULL_S = 120
BUILD_BASE_S = 900


class NoEngine(Exception):
    """Why no engine can be had, in one sentence."""


def engine() -> Any:
    """A client of the engine; skips the test, loudly, where none can be had."""
    client, missing = _tried()
    if missing:
        print(missing, file=sys.__stderr__, flush=True)
        pytest.skip(missing)
    return client


@functools.cache
def _tried() -> tuple[Any, str]:
    """A client, or why there is none; found out once, since it can take minutes."""
    try:
        url = _find()
    except NoEngine as reason:
        return None, f"NO CONTAINER ENGINE, SO NOTHING OF THE COMPOSE FILES WAS TESTED: {reason}"
    os.environ["DOCKER_HOST"] = url
    client = docker.DockerClient(base_url=url, timeout=120)
    if missing := _no_compose() or _no_base_image(client):
        client.close()
        return None, missing
    atexit.register(client.close)
    return client, ""


def _find() -> str:
    given = os.environ.get("DOCKER_HOST", "")
    if given:
        if _answers(given):
            return given
        raise NoEngine(f"DOCKER_HOST={given} does not answer")
    if _answers(SYSTEM_SOCKET):
        return SYSTEM_SOCKET
    if shutil.which("dockerd") is None:
        raise NoEngine("dockerd is not installed (deploy/ci/install-engine.sh does, on Debian 12)")
    if os.getuid() != 0:
        raise NoEngine("dockerd can only be started by root; set DOCKER_HOST to a running engine")
    return _start()


def _answers(url: str) -> bool:
    # The docker package leaves a socket open whose connection fails, so that is tried without it first.
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(url.removeprefix("unix://")):
                return False
    try:
        with contextlib.closing(docker.DockerClient(base_url=url, timeout=10)) as client:
            return bool(client.ping())
    except Exception:  # whatever is wrong with it, it is not an engine to use
        return False


def _start() -> str:
    folder = Path(tempfile.mkdtemp(prefix="visavis-engine-"))
    url = f"unix://{folder}/docker.sock"
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        ["dockerd", "--data-root", folder / "root", "--exec-root", folder / "exec",
         "--pidfile", folder / "pid", "--host", url],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    log.close()
    atexit.register(_stop, process, folder)
    deadline = time.monotonic() + 60
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = (folder / "log").read_text(errors="replace").strip().splitlines()
            raise NoEngine(f"dockerd does not start: {lines[-1] if lines else 'it said nothing'}")
        time.sleep(0.2)
    return url


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(OSError):  # dockerd leaves the mount of its host network
        subprocess.run(["umount", folder / "exec/netns/default"], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _no_compose() -> str:
    found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return "NO `docker compose` HERE, SO NOTHING OF THE COMPOSE FILES WAS TESTED" if found.returncode else ""


def _no_base_image(client: Any) -> str:
    """Have the base image, pulled or made; else why not."""
    if client.images.list(BASE_IMAGE):
        return ""
    with contextlib.suppress(subprocess.TimeoutExpired):
        pulled = subprocess.run(
            ["docker", "pull", "--quiet", BASE_IMAGE], capture_output=True, timeout=PULL_S, check=False
        )
        if pulled.returncode == 0:
            return ""
    made = subprocess.run(
        [ROOT / "deploy/ci/base-image.sh", BASE_IMAGE],
        capture_output=True,
        text=True,
        timeout=BUILD_BASE_S,
        check=False,
    )
    if made.returncode:
        return f"{BASE_IMAGE} CAN NEITHER BE PULLED NOR MADE, SO NO IMAGE WAS TESTED: {made.stderr[-500:]}"
    return ""
