"""One `docker compose` project of a test: files, settings, ports of its own; down with everything at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import httpx

from testing.caller import CallFailed, Phone
from testing.ports import free_port, free_ports
from tests.peers.docker_engine import ROOT, engine
from tests.support.house import House

UP_S = 240


class Project:
    """``settings``: what is in its env file. Ports of SIP, API and RTP are free ones of the host."""

    def __init__(self, folder: Path, files: Sequence[str | Path], settings: dict[str, object]) -> None:
        self.name = f"visavis-test-{secrets.token_hex(4)}"
        self.engine = engine()
        self.sip_port, self.api_port = free_port(), free_port()
        low = free_ports(100)
        self.out = folder / "out"
        self.out.mkdir()
        secret = folder / "settings.toml"
        shutil.copy(ROOT / "deploy/settings.toml", secret)
        secret.chmod(0o644)
        folder.chmod(0o755)
        values: dict[str, object] = {
            "DEPLOY_ENV_FILE": folder / "env",
            "DEPLOY_SECRET_SETTINGS": secret,
            "DEPLOY_NAMES_ADDRESS": f"127.77.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}",
            "DEPLOY_UID": os.getuid(),
            "DEPLOY_GID": os.getgid(),
            "DEPLOY_OUT": self.out,
            "VISAVIS_SIP_PORT": self.sip_port,
            "VISAVIS_API_PORT": self.api_port,
            "VISAVIS_RTP_PORT_MIN": low,
            "VISAVIS_RTP_PORT_MAX": low + 23,
            "VISAVIS_GREETING": "",
            "VISAVIS_INFERENCE_ENGINE": "mock",
            **settings,
        }
        self._env, self._values, self._files = folder / "env", values, [ROOT / file for file in files]
        self.set()
        self._command = ["docker", "compose", "--project-directory", str(ROOT), "--project-name", self.name]
        self._command += ["--env-file", str(folder / "env")]
        for file in files:
            self._command += ["--file", str(ROOT / file)]

    def set(self, **settings: object) -> None:
        """Change settings in the env file; ``None`` takes one out. The next ``up`` sees them."""
        self._values.update(settings)
        lines = [f"{name}={value}\n" for name, value in self._values.items() if value is not None]
        self._env.write_text("".join(lines))

    def environment(self) -> dict[str, str]:
        """Variables with which a plain ``docker compose`` in the project's folder is of this project."""
        files = ":".join(str(file) for file in self._files)
        return {
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": files,
            "COMPOSE_ENV_FILES": str(self._env),
            "COMPOSE_PROJECT_DIRECTORY": str(ROOT),
        }

    def compose(
        self, *words: str, check: bool = True, timeout: float = UP_S
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose WORDS``; with ``check`` a failure raises with what it said and the logs."""
        done = subprocess.run(
            [*self._command, *words], capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"docker compose {' '.join(words)}: {done.stderr[-3000:]}\n{self.logs()}")
        return done

    def up(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``up --detach --wait``; with ``check`` also until calls get a talking face, which health leaves out."""
        done = self.compose("up", "--detach", "--wait", *words, check=check)
        if check:
            wait_until("a talking face", lambda: self.status()["talking_face"], 90.0)
        return done

    def headers(self) -> dict[str, str]:
        """The API's token, as a person gets it."""
        said = self.container("orchestrator").exec_run(["visavis-token"])
        return {"Authorization": f"Bearer {said.output.decode().strip()}"}

    def get(self, path: str) -> Any:
        """What the API answers."""
        url = f"http://127.0.0.1:{self.api_port}{path}"
        return httpx.get(url, timeout=10, headers=self.headers()).raise_for_status().json()

    def status(self) -> Any:
        """What the orchestrator tells of itself."""
        return self.get("/v1/status")

    def logs(self, service: str = "") -> str:
        """What the services said."""
        words = ["logs", "--no-color", "--no-log-prefix", "--tail", "200", *([service] if service else [])]
        done = subprocess.run(
            [*self._command, *words], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def containers(self, service: str = "") -> list[Any]:
        """The project's containers by number, ended ones too."""
        labels = [f"com.docker.compose.project={self.name}"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        found = self.engine.containers.list(all=True, filters={"label": labels})
        return sorted(found, key=lambda c: int(c.labels["com.docker.compose.container-number"]))

    def container(self, service: str) -> Any:
        """The only container of a service, as it is now."""
        (found,) = self.containers(service)
        return found

    def network(self) -> Any:
        """The network between orchestrator and inference servers."""
        return self.engine.networks.get(f"{self.name}_avatar")

    def left(self) -> dict[str, list[str]]:
        """What the engine still has of this project."""
        label = {"label": f"com.docker.compose.project={self.name}"}
        return {
            "containers": [c.name for c in self.engine.containers.list(all=True, filters=label)],
            "networks": [n.name for n in self.engine.networks.list(filters=label)],
            "volumes": [v.name for v in self.engine.volumes.list(filters=label)],
        }

    def down(self) -> None:
        """Remove everything."""
        self.compose(
            "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "30", check=False
        )

    @contextlib.asynccontextmanager
    async def house(self) -> AsyncIterator[House]:
        """The control API and what phones dial, as the tests without containers have them."""
        url, headers = f"http://127.0.0.1:{self.api_port}", self.headers()
        async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as api:
            yield House(cast(Any, None), self.sip_port, api)

    @contextlib.asynccontextmanager
    async def phone(self, within_s: float = 60.0) -> AsyncIterator[Phone]:
        """A call; a machine that others keep busy may refuse it for a while (503), which is as it should be."""
        deadline = time.monotonic() + within_s
        phone = Phone(f"sip:demo@127.0.0.1:{self.sip_port}")
        while True:
            try:
                await phone.__aenter__()
                break
            except CallFailed as refused:
                if "503" not in str(refused) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1.0)
                phone = Phone(f"sip:demo@127.0.0.1:{self.sip_port}")
        try:
            yield phone
        finally:
            await phone.__aexit__()

    async def ready(self, within_s: float = 90.0) -> None:
        """Until calls get a talking face."""
        async with asyncio.timeout(within_s):
            while not (await asyncio.to_thread(self.status))["talking_face"]:
                await asyncio.sleep(0.2)

    def metric(self, name: str) -> float:
        """One series of the orchestrator without labels."""
        text = httpx.get(f"http://127.0.0.1:{self.api_port}/metrics", timeout=10).text
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


@contextlib.contextmanager
def project(*files: str | Path, **settings: object) -> Iterator[Project]:
    """A project over ``docker-compose.yml`` and ``files``; nothing of it is left at the end."""
    with tempfile.TemporaryDirectory(prefix="visavis-compose-", ignore_cleanup_errors=True) as name:
        made = Project(Path(name), ["docker-compose.yml", *files], settings)
        try:
            yield made
        finally:
            made.down()


def wait_until(what: str, done: Any, within_s: float = 60.0) -> None:
    """Poll ``done()``; raises ``TimeoutError`` naming ``what``."""
    deadline = time.monotonic() + within_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {within_s:.0f} s")
        time.sleep(0.1)


def sentences(text: str) -> list[str]:
    """Log lines that are sentences for a person: no JSON, no trace."""
    lines = [line for line in text.splitlines() if line.strip()]
    return [line for line in lines if not _is_json(line)]


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
