"""A face in a call from a browser: it nods when its caller pauses, looks away before an answer, obeys."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.calls.test_face_states import bodies, small
from tests.console.test_call import CALL, LIVE, READY, console
from tests.http.test_speech import wav
from tests.support.chromium import FAKE_DEVICES, Tab, chromium
from tests.support.house import orchestrator
from tests.support.portraits import IRIS
from tests.support.servers import running_server
from tests.support.vowels import vowels

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium")]

QUIET_S, WORDS_S = 10, 4
SHOWN = """(() => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  canvas.width = canvas.height = 192;
  canvas.getContext('2d').drawImage(video, 0, 0, 192, 192);
  return canvas.toDataURL('image/png').split(',')[1];
})()"""


async def watched(
    tab: Tab, known: NDArray[np.float32], kinds: list[str], until: float
) -> list[tuple[float, str]]:
    """What the face does, and when (monotonic)."""
    seen = []
    while (now := time.monotonic()) < until:
        png = np.frombuffer(base64.b64decode(await tab.run(SHOWN)), np.uint8)
        picture = cv2.imdecode(png, cv2.IMREAD_COLOR)
        assert picture is not None
        luma = (
            small(cv2.cvtColor(np.asarray(picture, np.uint8), cv2.COLOR_BGR2YUV)[..., 0]) * (219 / 255) + 16
        )
        seen.append((now, kinds[int(((known - luma) ** 2).mean((1, 2)).argmin())]))
        await asyncio.sleep(0.05)
    return seen


async def test_it_nods_at_a_pause_looks_away_and_does_as_it_is_told(tmp_path: Path) -> None:
    portrait = IRIS.read_bytes()
    known, kinds = bodies(portrait)
    microphone = tmp_path / "words.wav"
    quiet = np.zeros(16_000 * QUIET_S, np.int16)
    microphone.write_bytes(wav(np.concatenate([quiet, vowels(WORDS_S, 16_000), quiet]), 16_000))
    flags = (*FAKE_DEVICES, f"--use-file-for-fake-audio-capture={microphone}%noloop")
    async with (
        running_server(engine="portrait", slots=1) as server,
        orchestrator([server.address], portrait=portrait, fps=25) as house,
        chromium(console(house), *flags, ready=READY) as tab,
    ):
        await tab.run(CALL)
        called = time.monotonic()
        await tab.until(LIVE)
        call_id = await house.call_id()
        heard = await watched(tab, known, kinds, called + QUIET_S + WORDS_S + 7)
        told = await house.api.put(f"/v1/calls/{call_id}/state", json={"state": "thinking"})
        assert told.status_code == 204
        thinks = await watched(tab, known, kinds, time.monotonic() + 8)
    assert "nod" not in {kind for at, kind in heard if at < called + QUIET_S + 1}
    nods = [at for at, kind in heard if kind == "nod"]
    assert nods and nods[0] > called + QUIET_S + WORDS_S - 1, [(at - called, kind) for at, kind in heard]
    assert "away" in {kind for at, kind in heard if at > nods[0]}
    assert "away" in {kind for _, kind in thinks}
