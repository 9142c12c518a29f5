"""The Kubernetes manifests as `kubectl kustomize` renders them, and how to find one's way in them."""

from __future__ import annotations

import functools
import os
import re
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
    return render_folder(KUBERNETES / "overlays" / overlay)


def render_folder(folder: Path) -> list[Object]:
    """The same of any folder with a kustomization."""
    took_part("kubectl")
    return _rendered(folder)


@functools.cache
def _rendered(folder: Path) -> list[Object]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        if os.environ.get("CI"):
            pytest.fail("kubectl is missing: the manifests cannot be rendered")
        pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", str(folder)]
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
    own = variables(objects, container(workload))
    return values | {name: value for name, value in own.items() if name.startswith("VISAVIS_")}


def variables(objects: list[Object], one: Object) -> dict[str, str]:
    """A container's own variables whose values are known here, as the kubelet makes them one after the other."""
    values: dict[str, str] = {}
    for each in one.get("env", []):
        source = each.get("valueFrom", {}).get("configMapKeyRef")
        if source:
            values[each["name"]] = find(objects, "ConfigMap", source["name"])["data"][source["key"]]
        elif "value" in each:
            (values[each["name"]],) = expanded([each["value"]], values)
    return values


def expanded(words: list[str], values: dict[str, str]) -> list[str]:
    """``$(NAME)`` replaced as in a container's command."""
    return [re.sub(r"\$\((\w+)\)", lambda m: values.get(m[1], m[0]), word) for word in words]


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()
