"""The rendered manifests through `podman kube play`: real pods from the real images, without a control plane."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.credentials import API_TOKEN, FLEET_TOKEN
from tests.support.manifests import Object, container, find, workloads

CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""What a machine without systemd and without the right to raise limits needs."""

SETTINGS = "orchestrator-settings"


def playable(objects: list[Object], settings: dict[str, str], address: str, toml: str) -> list[Object]:
    """The objects that podman 4 plays, with these settings of the orchestrator.

    Left out, since podman does not know them: probes (its timers are systemd's), Services, policies, priorities.
    There is one orchestrator, `status.hostIP` is ``address``, and the Secrets that the reader makes are ConfigMaps
    (podman 4.3 mounts Secrets undecoded).
    """
    out: list[Object] = []
    for name, workload in workloads(objects).items():
        load = copy.deepcopy(workload)
        load["kind"] = "Deployment"
        load["spec"].setdefault("replicas", 1)
        if name == "orchestrator":
            load["spec"]["replicas"] = 1  # its ports are the machine's
        for key in ("strategy", "updateStrategy", "minReadySeconds", "progressDeadlineSeconds"):
            load["spec"].pop(key, None)
        one = load["spec"]["template"]["spec"]["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            one.pop(probe)
        for variable in one.get("env", []):
            if "valueFrom" in variable:
                variable.pop("valueFrom")
                variable["value"] = address
        (source,) = [s["configMapRef"]["name"] for s in one["envFrom"]]
        values = copy.deepcopy(find(objects, "ConfigMap", source))
        if name == "orchestrator":
            values["data"] |= settings
        one.pop("ports")  # podman takes them for ports of the machine
        for volume in load["spec"]["template"]["spec"]["volumes"]:
            if name := volume.pop("secret", {}).get("secretName"):
                volume["configMap"] = {"name": name}
        out += [values, load]
    secrets = {
        SETTINGS: {"settings.toml": toml},
        "api-tokens": {"tokens": f"{API_TOKEN} * api\n"},
        "fleet-tokens": {"tokens": f"{FLEET_TOKEN} * fleet\n"},
    }
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
        for name, data in secrets.items()
    ]
    return [*maps, *out]


class Podman:
    """A store of its own in a folder of its own; ``with Podman() as podman``. Skips where it is missing."""

    def __init__(self) -> None:
        if shutil.which("podman") is None or os.getuid() != 0:
            pytest.skip("NO PODMAN (or not root), SO NOTHING OF THE MANIFESTS WAS RUN")
        self._folder = Path(tempfile.mkdtemp(prefix="visavis-podman-"))
        (self._folder / "containers.conf").write_text(CONFIGURATION)
        self._env = os.environ | {"CONTAINERS_CONF": str(self._folder / "containers.conf")}
        self._played: list[Path] = []

    def __enter__(self) -> Podman:
        return self

    def __exit__(self, *error: object) -> None:
        for path in self._played:
            self.run("kube", "down", str(path), check=False)
        self.run("pod", "rm", "--all", "--force", check=False)
        self.run("system", "reset", "--force", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, *words: str, check: bool = True, timeout: float = 180) -> str:
        """``podman WORDS``; what it printed. A failure raises with what it said."""
        store = ["--root", str(self._folder / "root"), "--runroot", str(self._folder / "run")]
        done = subprocess.run(
            ["podman", *store, *words],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"podman {' '.join(words)}: {done.stderr[-3000:]}")
        return done.stdout if words[0] != "logs" else done.stdout + done.stderr

    def load(self, image: str) -> None:
        """An image of the Docker engine."""
        archive = self._folder / "image.tar"
        subprocess.run(["docker", "save", "--output", archive, image], check=True, timeout=180)
        loaded = self.run("load", "--input", str(archive)).strip().rpartition(" ")[2]
        archive.unlink()
        if loaded != f"docker.io/{image}":
            self.run("tag", loaded, f"docker.io/{image}")

    def play(self, objects: list[Object]) -> None:
        """``kube play``."""
        path = self._folder / f"play{len(self._played)}.yaml"
        path.write_text(yaml.safe_dump_all(objects))
        self._played.append(path)
        self.run("kube", "play", str(path))

    def containers(self, image: str) -> list[dict[str, Any]]:
        """Running containers of an image, as `inspect` shows them."""
        names = self.run("ps", "--quiet", "--filter", f"ancestor=docker.io/{image}").split()
        return list(json.loads(self.run("inspect", *names))) if names else []

    def address(self, one: dict[str, Any]) -> str:
        """The container's pod's address."""
        pod = json.loads(self.run("pod", "inspect", one["Pod"]))
        infra = json.loads(self.run("inspect", pod["InfraContainerID"]))[0]["NetworkSettings"]
        found = [infra.get("IPAddress", ""), *(n["IPAddress"] for n in infra.get("Networks", {}).values())]
        return next(a for a in found if a)

    def logs(self, one: dict[str, Any]) -> str:
        """What it said."""
        return self.run("logs", one["Id"], check=False)


__all__ = ["Podman", "container", "playable"]
