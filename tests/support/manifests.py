"""The Kubernetes manifests as `kubectl kustomize` renders them, and how to find one's way in them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.marks import took_part

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())

Object = dict[str, Any]


def render(overlay: str) -> list[Object]:
    """The objects of an overlay; skips the test where there is no kubectl, except in CI."""
    took_part("kubectl")
    return _rendered(overlay)


@functools.cache
def _rendered(overlay: str) -> list[Object]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        if os.environ.get("CI"):
            pytest.fail("kubectl is missing: the manifests cannot be rendered")
        pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", str(KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return [o for o in yaml.safe_load_all(done.stdout) if o]


def find(objects: list[Object], kind: str, name: str) -> Object:
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1, (kind, name, [(o["kind"], o["metadata"]["name"]) for o in objects])
    return found[0]


def workloads(objects: list[Object]) -> dict[str, Object]:
    """Inference servers and orchestrators by name."""
    found = {o["metadata"]["name"]: o for o in objects if o["kind"] in ("Deployment", "DaemonSet")}
    return {name: found[name] for name in ("inference", "orchestrator")}


def container(workload: Object) -> Object:
    (one,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(one)


def config(objects: list[Object], workload: Object) -> dict[str, str]:
    """What the container's environment is, ConfigMaps and values of its own together."""
    values: dict[str, str] = {}
    for source in container(workload)["envFrom"]:
        values |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return values


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()
