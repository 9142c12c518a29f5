"""The health check of the containers against real services that live but have no face to show."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from testing.ports import free_port
from tests.support.house import orchestrator
from tests.support.servers import running_server

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]


async def health(service: str, **settings: object) -> tuple[int, str]:
    """Exit status and line of ``healthcheck.py SERVICE`` with these variables."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VISAVIS_")}
    environment |= {"PYTHONPATH": str(ROOT)} | {name: str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "deploy/healthcheck.py"), service),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode().strip()


async def shell_health(folder: Path, service: str, **settings: object) -> tuple[int, str, int]:
    """Exit status and line of ``healthcheck.sh SERVICE``, and how often it has started Python in ``folder``."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\necho x >>{folder}/started\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VISAVIS_")}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        *("bash", str(ROOT / "deploy/healthcheck.sh"), service),
        env=environment | {name: str(value) for name, value in settings.items()},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode().strip(), len((folder / "started").read_text()) // 2


async def test_a_healthy_container_is_asked_without_starting_python(tmp_path: Path) -> None:
    async with running_server() as server:
        host, _, port = server.address.rpartition(":")
        where = {"VISAVIS_INFERENCE_HOST": host, "VISAVIS_INFERENCE_PORT": port}
        where["VISAVIS_INFERENCE_HTTP_PORT"] = str(server.http_port)
        for _ in range(3):
            assert await shell_health(tmp_path, "inference", **where) == (0, "", 1)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            code, said, started = await shell_health(tmp_path, "inference", **where)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert (code, started) == (1, 2) and "no answer" in said
        assert await shell_health(tmp_path, "inference", **where) == (0, "", 2)
    code, said, _ = await shell_health(tmp_path, "inference", **where)
    assert code == 1 and "no answer" in said


async def test_an_orchestrator_without_a_face_is_healthy_and_ready(tmp_path: Path) -> None:
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False) as house:
        assert "no inference server answers" in (await house.answering())[0]
        async with asyncio.timeout(30):
            while (status := await house.status())["avatar"][
                "state"
            ] == "preparing":  # it looks for a server first
                await asyncio.sleep(0.1)
        assert (status["takes_calls"], status["talking_face"]) == (True, False)
        assert [server["state"] for server in status["servers"]] == ["unreachable"]
        assert status["avatar"]["name"] == "default" and status["avatar"]["state"] == "waiting"
        assert status["workers"][0]["has_room"] and status["sip"]["UDP"]
        assert (await house.api.get("/readyz")).status_code == 200
        port = house.api.base_url.port
        assert await health("orchestrator", VISAVIS_API_PORT=port) == (0, "")
        for _ in range(2):
            assert await shell_health(tmp_path, "orchestrator", VISAVIS_API_PORT=port) == (0, "", 1)
    code, said = await health("orchestrator", VISAVIS_API_PORT=port)
    assert code == 1 and "no answer" in said


async def test_an_engine_that_loads_is_healthy() -> None:
    async with running_server(ready=False, engine_settings={"load_ms": "600000"}) as server:
        host, _, port = server.address.rpartition(":")
        assert await health("inference", VISAVIS_INFERENCE_HOST=host, VISAVIS_INFERENCE_PORT=port) == (0, "")
        async with orchestrator([server.address], wait=False) as house:
            missing = await house.answering()
            assert missing[0].startswith(f"the inference server at {server.address} cannot draw: ")
