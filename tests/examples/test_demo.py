"""``make demo``: what it hands over of the command line, and what it says when nothing was spoken."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import httpx
import numpy as np
import pytest

from examples import demo
from tests.peers.peers import require
from visavis.portraits import CAST

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
        ("AVATAR", "omar; touch injected"),
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
    ("given", "told"),
    [
        (["--avatar=lumy"], f"there is no built-in face lumy: name one of {', '.join(sorted(CAST))}"),
        (
            ["--avatar=Omar", "--image=me.jpg"],
            "a picture and the built-in face omar are named: leave one away",
        ),
        (["--image=me.jpg"], f"there is no picture {Path('me.jpg').resolve()}"),
    ],
)
def test_a_face_that_cannot_be_shown_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, given: list[str], told: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", *given])
    with pytest.raises(SystemExit) as refused:
        demo.main()
    assert refused.value.code == f"demo: {told}"


@pytest.mark.parametrize("name", ["Ruth", *sorted(CAST)])
def test_the_face_that_is_named_is_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shown: list[str] = []

    async def note(options: argparse.Namespace) -> None:
        shown.append(options.avatar)

    monkeypatch.setattr(demo, "interruptible", note)
    monkeypatch.setattr(sys, "argv", ["demo", f"--avatar={name}"])
    demo.main()
    assert shown == [name.lower()]


@pytest.mark.process
@pytest.mark.parametrize(
    ("stand_in", "script", "told"),
    [
        ("uname", "echo Darwin", "take Docker or WSL 2"),
        ("python3", "exit 1", "needs Python 3.11 to 3.13"),
        ("python3", 'case "$*" in *venv*) exit 1; esac', "Can this folder be written to? Is python3-venv"),
    ],
)
def test_a_machine_that_cannot_is_told_before_anything_is_installed(
    tmp_path: Path, stand_in: str, script: str, told: str
) -> None:
    make = require("make", "make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    program = tmp_path / "bin" / stand_in
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    own = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run([make, "demo"], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.returncode == 2 and told in done.stdout and "installing" not in done.stdout, done.stdout
    assert not (tmp_path / ".venv").exists()


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


@pytest.mark.process
@pytest.mark.slow
def test_the_film_sounds_wide_and_the_mouth_moves_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.demo", "--size=256x256", "--text=Hello, this is a fish."]
    done = subprocess.run(
        [*command, f"--out={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert "caller          When are you open?" in done.stdout and "(interrupted)" in done.stdout
    assert "no inference server" not in done.stderr and "0 lost" in done.stdout
    with av.open(str(tmp_path / "demo.mp4")) as film:
        sound = film.streams.audio[0]
        rate = sound.rate
        pcm = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(sound)])
        film.seek(0)
        pictures = [(frame.time, frame.to_ndarray(format="gray")) for frame in film.decode(video=0)]
    assert rate == 48_000
    power = np.abs(np.fft.rfft(pcm)) ** 2
    above = np.fft.rfftfreq(len(pcm), 1 / rate) > 4000  # what no telephone of 8 kHz carries
    assert power[above].sum() > 1e-3 * power.sum()

    height, width = pictures[0][1].shape
    mouth = np.array(
        [g[height // 2 : height * 3 // 4, width // 3 : width * 2 // 3] for _, g in pictures], float
    )
    moved = np.abs(np.diff(mouth, axis=0)).mean(axis=(1, 2))
    starts = [round((at or 0.0) * rate) for at, _ in pictures[1:]]
    loud = (
        np.array([np.abs(pcm[max(0, at - rate // 25) : at + rate // 25]).max(initial=0) for at in starts])
        > 0.05
    )
    assert loud.sum() > 15 and (~loud).sum() > 50
    assert moved[loud].mean() > 2 * moved[~loud].mean()
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.process
@pytest.mark.parametrize(
    ("out", "told"), [("file/out", "cannot be written (Not a directory)"), ("room", "has less than")]
)
def test_a_demo_that_could_not_write_says_so_at_once(tmp_path: Path, out: str, told: str) -> None:
    """Before it starts anything: there is no line of its progress."""
    (tmp_path / "file").touch()
    least = "" if out != "room" else "demo.FILM_BYTES = 1 << 62; "
    script = f"from examples import demo; {least}demo.main()"
    done = subprocess.run(
        [sys.executable, "-c", script, f"--out={tmp_path / out}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
