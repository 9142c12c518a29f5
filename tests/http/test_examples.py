"""The client of docs/http.md speaks, and the pages say what the code does."""

from __future__ import annotations

import asyncio
import itertools
import re
import runpy
import subprocess
import wave
from pathlib import Path

import pytest

from tests.peers.peers import require
from tests.support.avatar_client import portrait, voice
from tests.support.credentials import FLEET_TOKEN, local_token
from tests.support.http import client, url
from tests.support.portraits import IRIS
from tests.support.servers import running_server
from tests.support.vowels import vowels
from visavis.client.http_wire import AUDIO, CLOSE_CODES, FRAME

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.process
async def test_the_plain_client_speaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, speech = tmp_path / "face.png", tmp_path / "speech.wav"
    image.write_bytes(portrait())
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(voice(24_000).tobytes())
    speak = runpy.run_path(str(ROOT / "examples" / "http_client.py"))["speak"]
    async with running_server(slots=2) as server:
        with wave.open(str(speech)) as file:
            pcm = file.readframes(file.getnframes())
        count = await asyncio.to_thread(speak, image.read_bytes(), pcm, url(server), FLEET_TOKEN)
    assert count >= 38  # a second and a half, and the mouth closes
    printed = capsys.readouterr().out
    assert "over body frame" in printed and "'late': 0" in printed


@pytest.mark.process
@pytest.mark.slow
async def test_the_plain_client_is_led_through_the_body(capsys: pytest.CaptureFixture[str]) -> None:
    speak = runpy.run_path(str(ROOT / "examples" / "http_client.py"))["speak"]
    async with running_server(engine="portrait", slots=1) as server:
        image, pcm = IRIS.read_bytes(), vowels(8, 16_000).tobytes()
        await asyncio.to_thread(speak, image, pcm, url(server), FLEET_TOKEN)
        async with client(server) as http:
            avatar = (await http.post("/v1/avatars", content=image)).raise_for_status().json()
    led = [int(index) for index in re.findall(r"over body frame +(\d+):", capsys.readouterr().out)]
    assert len(led) > 150
    steps = [(a, b) for a, b in itertools.pairwise(led) if b != (a + 1) % avatar["loop_length"]]
    jumps = {(a, b) for a, b in avatar["jumps"]}
    targets = {b for _, b in jumps}
    assert steps and all(step in jumps or (step[0] == step[1] and step[0] in targets) for step in steps)


def test_the_page_lists_sizes_and_close_codes() -> None:
    page = (ROOT / "docs" / "http.md").read_text()
    for kind, code in CLOSE_CODES.items():
        assert re.search(rf"^\| `{kind}` \|.*\| {code} \|", page, re.MULTILINE)
    assert f"| {AUDIO.size} | | PCM" in page and f"| {FRAME.size} | | pixels" in page


def page_script() -> str:
    page = (ROOT / "examples" / "browser_client.html").read_text()
    return page.split("<script>")[1].split("</script>")[0]


def test_the_browser_page_reads_the_same_bytes() -> None:
    script = page_script()
    assert f"new Uint8Array(data, {FRAME.size})" in script and "message.set(new Uint8Array(" in script
    assert f"new Uint8Array({AUDIO.size} + piece.byteLength)" in script


@pytest.mark.process
@pytest.mark.peer
def test_the_browser_pages_script_is_javascript() -> None:
    node = require("node", "nodejs")
    subprocess.run([node, "--check", "-"], input=page_script(), text=True, check=True)


@pytest.mark.process
async def test_three_lines_of_curl_make_a_clip(tmp_path: Path) -> None:
    require("curl", "curl")
    block = re.search(r"```sh\n(auth=[^`]*/speech[^`]*)```", (ROOT / "docs" / "http.md").read_text())
    assert block is not None and len(block[1].splitlines()) == 1 + 3  # the token, and three lines
    (tmp_path / "portrait.jpg").write_bytes(portrait())
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 24000, 0, "NONE", ""))
        file.writeframes(voice(24_000).tobytes())
    async with running_server(slots=1) as server:
        lines = block[1].replace("http://127.0.0.1:8500", url(server))
        lines = lines.replace("$(.venv/bin/visavis-token fleet)", local_token())
        shell = await asyncio.create_subprocess_exec("bash", "-ec", lines, cwd=tmp_path)
        assert await asyncio.wait_for(shell.wait(), 60) == 0
    clip = (tmp_path / "face.mp4").read_bytes()
    assert clip[4:8] == b"ftyp" and b"moof" in clip and len(clip) > 20_000
