"""The tokens of a cluster: made by one command, and mounted only where they are needed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.manifests import OVERLAYS, Object, config, container, render, workloads
from visavis.service.security import API_SCOPES, FLEET_SCOPES, Tokens

ROOT = Path(__file__).resolve().parents[2]
KUBECTL = """\
#!/usr/bin/env python3
import json, sys
from pathlib import Path
here = Path(__file__).parent
with (here / "noted").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
words = [word for word in sys.argv[1:] if not word.startswith("-")]
kept = (lambda name: here / f"{words[0]}-{name}") if sys.argv[1] == "-n" else (lambda name: here / name)
if "--dry-run=client" in sys.argv:
    print(json.dumps([words[4], sys.stdin.read()]))
elif "apply" in words:
    name, text = json.load(sys.stdin)
    kept(name).write_text(text)
elif "create" in words and "secret" in words:
    kept(words[-1]).write_text(sys.stdin.read())
elif "get" in words and any(word.startswith("go-template") for word in words):
    print(kept(words[3]).read_text(), end="")
elif "get" in words:
    sys.exit(0 if kept(words[-1]).exists() else 1)
elif "create" in words:
    kept(words[-1]).touch()
"""
"""Stands for a cluster: it keeps what is created, and notes what stands on the command line."""


@pytest.mark.process
@pytest.mark.peer
def test_one_command_makes_them_once(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)

    def make() -> str:
        done = subprocess.run(
            [ROOT / "deploy/kubernetes/secrets.sh"],
            env=os.environ | {"PATH": "/usr/bin:/bin", "KUBECTL": str(kubectl), "NAMESPACE": "calls"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    said = make()
    tokens = {}
    for name, scopes in (("api", API_SCOPES), ("fleet", FLEET_SCOPES)):
        line = (tmp_path / f"calls-{name}-tokens").read_text()
        tokens[name] = line.split()[0]
        grant = Tokens(tmp_path / f"calls-{name}-tokens", scopes).grant(tokens[name])
        assert grant is not None and (grant.name, grant.scopes) == (name, set(scopes))
        assert len(tokens[name]) == len("visavis_") + 43
    assert tokens["api"] != tokens["fleet"]
    calls = [json.loads(line) for line in (tmp_path / "noted").read_text().splitlines()]
    assert ["create", "namespace", "calls"] in calls
    assert ["create", "namespace", "calls-inference"] in calls
    assert {path.name for path in tmp_path.glob("calls-inference-*")} == {"calls-inference-fleet-tokens"}
    assert not any(token in str(calls) + said for token in tokens.values())
    assert "api-tokens" in said and "base64decode" in said
    assert "is there already" in make()
    for place in ("calls", "calls-inference"):
        assert (tmp_path / f"{place}-fleet-tokens").read_text().split()[0] == tokens["fleet"]


@pytest.mark.process
@pytest.mark.peer
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_mounts_its_own(overlay: str) -> None:
    objects: list[Object] = render(overlay)
    loads = workloads(objects)
    mounted = {
        name: {
            v["secret"]["secretName"]
            for v in load["spec"]["template"]["spec"]["volumes"]
            if "secret" in v and v["name"] in {m["name"] for m in container(load)["volumeMounts"]}
        }
        for name, load in loads.items()
    }
    own = {"orchestrator-settings", "api-tokens", "fleet-tokens"} | (
        {"api-tls"} if overlay == "browsers" else set()
    )
    assert mounted.pop("orchestrator") == own
    assert mounted and all(secrets == {"fleet-tokens"} for secrets in mounted.values()), mounted
    for name, variable in (
        ("orchestrator", "VISAVIS_API_TOKENS"),
        ("orchestrator", "VISAVIS_AVATAR_TOKENS"),
        ("inference", "VISAVIS_INFERENCE_TOKENS"),
    ):
        path = Path(config(objects, loads[name])[variable])
        folders = {m["mountPath"]: m for m in container(loads[name])["volumeMounts"]}
        assert path.name == "tokens" and folders[str(path.parent)]["readOnly"] is True
