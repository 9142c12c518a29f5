"""Over HTTP a face speaks in an interpreter that has neither gRPC nor protobuf."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.avatar_client import portrait, voice
from tests.support.http import url
from tests.support.servers import running_server

ROOT = Path(__file__).parents[2]

SPEAK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("google", "grpc"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())

import asyncio
from pathlib import Path
from visavis import HTTPAvatarProvider, HttpServerClient

async def speak(url, folder):
    client = HttpServerClient(url)
    print((await client.capabilities()).engine)
    await client.close()
    face = HTTPAvatarProvider(url, fps=25, is_async=False, sample_rate=16000, cache_directory=folder, timeout=60)
    await face.start((folder / "portrait").read_bytes(), width=128, height=128)
    async with asyncio.timeout(45):
        while not face._session._stream.connected:
            await asyncio.sleep(0.01)
    pcm = (folder / "voice").read_bytes()
    frames = []
    for at in range(0, len(pcm), 6400):
        frames += await asyncio.to_thread(face.feed_audio, pcm[at : at + 6400])
    frames += await asyncio.to_thread(face.flush)
    await face.close()
    print(len(frames), len({frame.data for frame in frames}) > 5)

asyncio.run(speak(sys.argv[1], Path(sys.argv[2])))
print(*(name for name in sys.modules if name.partition(".")[0] in ("google", "grpc")))
"""


@pytest.mark.process
async def test_http_needs_neither_protobuf_nor_grpc(tmp_path: Path) -> None:
    (tmp_path / "portrait").write_bytes(portrait())
    (tmp_path / "voice").write_bytes(voice(16_000).tobytes())
    async with running_server(slots=2) as server, asyncio.timeout(90):
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", SPEAK, url(server), str(tmp_path),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await run.communicate()
    engine, frames, moves, *loaded = out.decode().split() or [""] * 3
    assert (run.returncode, engine, moves, loaded) == (0, "mock", "True", []), err.decode()
    assert 25 <= int(frames) <= 29
