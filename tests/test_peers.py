"""Tests with programs of others, on a machine that has none of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.peers import PACKAGES, require

ROOT = Path(__file__).resolve().parents[1]
FILES = ["tests/fleet/test_kamailio.py", "tests/rtp/test_receivers.py"]


@pytest.mark.parametrize("installs", [".ci/run", "CONTRIBUTING.md"])
def test_every_peers_package_is_installed(installs: str) -> None:
    words = set(re.findall(r"[a-z0-9.+-]+", (ROOT / installs).read_text()))
    assert {package for packages in PACKAGES.values() for package in packages.split()} <= words


@pytest.mark.process
def test_they_are_skipped_before_anything_is_started() -> None:
    """No log, server or socket is left open, which would be an error here."""
    own = {"PATH": "/nonexistent", "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=1", *FILES]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ skipped in", done.stdout, re.MULTILINE), done.stdout
    for told in ("kamailio is missing: apt-get install", "ffmpeg is missing: apt-get install"):
        assert told in done.stdout


def test_system_folders_are_searched_beside_those_of_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian keeps Kamailio in /usr/sbin, which is in no user's PATH."""
    program = tmp_path / "sbin" / "proxy"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert require("proxy", "proxy") == str(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="proxy is missing: apt-get install proxy"):
        require("proxy", "proxy")
