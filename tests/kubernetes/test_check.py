"""`make check-kubernetes` where its tools cannot be had: each is named, and the end is no success."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "check.sh"
NEEDED = ("basename", "bash", "dirname", "false", "grep", "mktemp", "rm", "touch")
"""What the script runs itself."""


@pytest.mark.process
def test_what_cannot_be_had_is_named_and_the_rest_is_tried(tmp_path: Path) -> None:
    folder = tmp_path / "deploy" / "kubernetes"
    (folder / "overlays" / "cpu").mkdir(parents=True)
    shutil.copy(SCRIPT, folder)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in NEEDED:
        (tools / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        ["bash", str(folder / SCRIPT.name), "false"],  # a Python that makes no environment
        env={"PATH": str(tools), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition("; NOT CHECKED: ")[2] for line in lines] == [
        "the overlays against the schemas of Kubernetes",
        "overlays and Dockerfiles by checkov",
        "the overlays",
        "the Dockerfiles by hadolint",
        "the alerts",
    ]
    assert lines[0].startswith("kubernetes-validate==1.37.0 could not be installed")
    assert lines[2].startswith("kubectl is missing: install kubectl")
    assert done.stderr == ""
