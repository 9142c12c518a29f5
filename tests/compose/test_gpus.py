"""Several GPUs on one host: what Compose makes of the three files; nothing is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.peers.docker_engine import engine

pytestmark = [pytest.mark.container, pytest.mark.process]

ROOT = Path(__file__).resolve().parents[2]
FILES = ["docker-compose.yml", "docker-compose.gpu.yml", "deploy/compose.gpus.yml"]


def rendered(files: list[str], tmp_path: Path, *words: str, **settings: str) -> dict[str, Any]:
    """``docker compose config``, with nothing of this shell's settings."""
    engine()  # skips the test, loudly, where there is none
    env = {k: v for k, v in os.environ.items() if not k.startswith(("VISAVIS_", "DEPLOY_", "COMPOSE_"))}
    (tmp_path / "env").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    command = ["docker", "compose", "--project-directory", str(ROOT), "--env-file", str(tmp_path / "env")]
    for file in files:
        command += ["--file", str(ROOT / file)]
    done = subprocess.run(
        [*command, *words, "config"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout)["services"])


def devices(service: dict[str, Any]) -> list[str]:
    (one,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert one["driver"] == "nvidia" and one["capabilities"] == ["gpu"] and "count" not in one
    return list(one["device_ids"])


@pytest.mark.parametrize("number", [2, 4, 8])
def test_a_server_for_each_gpu(number: int, tmp_path: Path) -> None:
    settings = {"DEPLOY_MUSETALK_DECODER": "taesd", "VISAVIS_INFERENCE_SLOT_LOAD": "0.5"}
    found = rendered(FILES, tmp_path, "--profile", f"gpus-{number}", **settings)
    servers = {name: each for name, each in found.items() if name.startswith("inference")}
    assert len(servers) == number
    assert sorted(gpu for each in servers.values() for gpu in devices(each)) == [
        str(n) for n in range(number)
    ]
    first = servers.pop("inference")
    for name, each in servers.items():
        assert each["networks"]["avatar"]["aliases"] == ["inference"], name  # the one name that is looked up
        assert each["scale"] == 1
        for same in ("image", "environment", "volumes", "secrets", "mem_limit", "depends_on", "healthcheck"):
            assert each[same] == first[same], (name, same)
        for same in ("read_only", "cap_drop", "security_opt", "init", "restart", "stop_grace_period"):
            assert each[same] == first[same], (name, same)
        assert each["build"]["target"] == first["build"]["target"] == "cuda"
    environment = first["environment"]
    assert environment["VISAVIS_INFERENCE_ENGINE_SETTINGS"].endswith(",decoder=taesd")
    assert environment["VISAVIS_INFERENCE_SLOT_LOAD"] == "0.5"


def test_without_a_profile_there_is_one(tmp_path: Path) -> None:
    found = rendered(FILES, tmp_path)
    assert [name for name in found if name.startswith("inference")] == ["inference"]
    assert devices(found["inference"]) == ["0"]


def test_a_setting_reaches_the_service_that_it_concerns(tmp_path: Path) -> None:
    found = rendered(FILES[:1], tmp_path, VISAVIS_MAX_CALLS="7", VISAVIS_INFERENCE_SLOTS="3")
    orchestrator, inference = (found[name]["environment"] for name in ("orchestrator", "inference"))
    assert orchestrator["VISAVIS_MAX_CALLS"] == "7" and "VISAVIS_MAX_CALLS" not in inference
    assert inference["VISAVIS_INFERENCE_SLOTS"] == "3" and "VISAVIS_INFERENCE_SLOTS" not in orchestrator
