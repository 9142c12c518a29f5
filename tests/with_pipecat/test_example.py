"""The example, run as its first line says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import wave
from pathlib import Path

import pytest

from tests.support.house import picture, tone
from tests.support.servers import ROOT, running_server

pytestmark = pytest.mark.process


async def test_the_example_speaks(tmp_path: Path) -> None:
    image, speech = tmp_path / "portrait.png", tmp_path / "speech.wav"
    image.write_bytes(picture())
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(tone(2, rate=24_000).tobytes())
    async with running_server() as server:
        command = [sys.executable, "examples/pipecat_avatar.py", server.address, str(image), str(speech)]
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        run = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, **pipes)
        async with asyncio.timeout(90):
            out, err = await run.communicate()
    assert run.returncode == 0, err[-2000:]
    told = re.search(r"(\d+) pictures, (.*) s of speech", out.decode())
    assert told and int(told[1]) >= 50 and told[2] == "2.00"
