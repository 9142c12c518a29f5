"""``MuseTalkAvatarProvider``: the engine in a child process, with a tiny checkpoint."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from tests.musetalk.support import checkpoint, settings, speech
from visavis import InvalidRequest, MuseTalkAvatarProvider, portraits
from visavis.roomkit.types import VideoFrame

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("providers_loop")]


@pytest.mark.process
@pytest.mark.slow
async def test_it_speaks_and_leaves_no_process(tmp_path: Path) -> None:
    given = settings(cache_dir=str(checkpoint().parent / "provider"))
    given.pop("musetalk_dir", None)
    face = MuseTalkAvatarProvider(
        checkpoint(), fps=25, device="cpu", batch_size=4, engine_settings=given, cache_directory=tmp_path
    )
    seen: list[VideoFrame] = []
    face.on_video(seen.append)
    await face.start(portraits.DEFAULT.read_bytes(), width=128, height=128)
    local = face._local
    assert local is not None and local.pid is not None and face.name == "musetalk"
    pid = local.pid
    try:
        idle = [face.get_idle_frame() for _ in range(5)]
        assert all(f is not None and f.width == 128 for f in idle)
        await asyncio.to_thread(face.feed_audio, speech(2.0).tobytes(), 16_000)
        await asyncio.to_thread(face.end_turn)
        async with asyncio.timeout(30):
            while len({f.data for f in seen}) < 10:
                await asyncio.sleep(0.1)
    finally:
        await face.close()
    assert np.frombuffer(seen[-1].data, np.uint8).size == 128 * 128 * 3
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.process
async def test_missing_weights_are_told_in_a_sentence(tmp_path: Path) -> None:
    face = MuseTalkAvatarProvider(tmp_path, device="cpu")
    with pytest.raises(InvalidRequest, match="MuseTalk files"):
        await face.start(b"", width=128, height=128)
    assert not face.is_started
    await face.close()
