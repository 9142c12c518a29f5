"""``make demo``: what it hands over of the command line, and what it says when nothing was spoken."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from examples import demo
from tests.peers.peers import require

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done
"""


def handed_over(tmp_path: Path, given: list[str], **environment: str) -> list[str]:
    """What ``make demo`` gives to Python."""
    make = require("make", "make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / ".venv" / ".setup").touch()
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [make, "demo", *given], cwd=tmp_path, env=own | environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\0")[2:-1]


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LANGUAGE", "de"),
        ("LANGUAGE", "de; echo injected"),
        ("IMAGE", "my \"own\" 'face' $(touch injected) `touch injected`.jpg"),
        ("TEXT", 'It costs $5; doesn\'t it?\n\\ Ja, "natürlich" & more $(shell touch injected)'),
        ("SIZE", "640x480 & touch injected"),
        ("FPS", "25 > injected"),
    ],
)
def test_options_are_handed_over_as_they_were_given(tmp_path: Path, name: str, value: str) -> None:
    assert handed_over(tmp_path, [f"{name}={value}"]) == [f"--{name.lower()}={value}"]
    assert not (tmp_path / "injected").exists()


@pytest.mark.process
def test_nothing_of_the_environment_is_an_option(tmp_path: Path) -> None:
    own = {"LANGUAGE": "en_US:en", "TEXT": "from elsewhere", "IMAGE": "x", "SIZE": "1x1", "FPS": "1"}
    own |= {"DEMO_LANGUAGE": "fr", "DEMO_TEXT": "y"}
    assert handed_over(tmp_path, ["FPS=30"], **own) == ["--fps=30"]


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"state": "failed", "reason": "the voice failed"}, "it could not speak: the voice failed"),
        ({"state": "interrupted", "reason": ""}, "the call ended early: bye by peer"),
    ],
)
async def test_a_demo_that_was_not_spoken_has_failed(
    monkeypatch: pytest.MonkeyPatch, turn: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(demo, "LISTEN_S", 0.0)
    call = {"call_id": "c1", "cause": "bye by peer", "turns": [{"turn_id": 1, **turn}]}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            assert json.loads(request.content) == {"text": "Hello.", "language": "en"}
            return httpx.Response(202, json={"turn_id": 1})
        return httpx.Response(200, json=[call] if request.url.path.endswith("calls") else call)

    phone = cast(Any, SimpleNamespace(hung_up=asyncio.Event()))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://test") as api:
        with pytest.raises(demo.DemoFailed, match=words):
            await demo.converse(api, phone, "Hello.", "en", demo.Progress())
