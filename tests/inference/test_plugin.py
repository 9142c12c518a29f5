"""A lip-sync engine of somebody else's package, and one with mistakes in it."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.support.avatar_client import Conversation, connect, portrait, prepare, refusal, voice
from tests.support.servers import running_server

pytestmark = pytest.mark.process

ENGINE = '''
from inference_server.engines.mock import MockEngine


class MyEngine(MockEngine):
    """Draws cards, and stumbles over avatars 13 (its audio), 14 (its rows) and 15 (its result)."""

    def track(self, handle, fps, origin):
        if handle.number == 13:
            raise ValueError("unlucky")
        return super().track(handle, fps, origin)

    def submit(self, rows):
        if any(row.track.handle.number == 14 for row in rows):
            raise ZeroDivisionError("rows")
        return super().submit(rows)

    def prepare(self, body, settings):
        if settings.get("number") == "15":
            return iter(())
        return super().prepare(body, settings)
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package ``somebody`` with an entry point, installed beside the project."""
    (tmp_path / "somebody.py").write_text(ENGINE)
    info = tmp_path / "somebody-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[visavis.engines]\nsomebody = somebody:MyEngine\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("plugin")
async def test_an_engine_from_outside_and_its_mistakes() -> None:
    async with running_server(engine="somebody") as server, connect(server.address) as stub:
        avatars = {
            number: await prepare(
                stub, portrait(number), width=320, height=240, settings={"number": str(number)}
            )
            for number in (1, 13, 14)
        }
        good = Conversation(stub)
        await good.open(avatars[1].avatar_id)
        await good.say(voice(640 * 20), end=False)

        deaf = Conversation(stub)
        await deaf.open(avatars[13].avatar_id)
        code, told = await refusal(_speak(deaf))
        assert code == grpc.StatusCode.INTERNAL and "ValueError: unlucky" in told

        blind = Conversation(stub)
        await blind.open(avatars[14].avatar_id)
        await blind.say(voice(640 * 2))
        frames = []
        while (response := await blind.read()) is not None and not response.HasField("turn_finished"):
            if response.HasField("frame"):
                frames.append(response.frame)
        assert [f.last for f in frames] == [True]  # nothing could be drawn, and the turn still ends

        code, told = await refusal(
            prepare(stub, portrait(15), width=320, height=240, settings={"number": "15"})
        )
        assert code == grpc.StatusCode.INTERNAL and "without a result" in told

        for _ in range(10):
            await good.wait("frame")
        assert sum(line["event"] == "engine_started" for line in server.log) == 1


async def _speak(talk: Conversation) -> None:
    await talk.say(voice(640))
    await talk.wait("turn_finished")


async def test_an_unknown_engine_is_refused_at_the_start() -> None:
    with pytest.raises(RuntimeError, match=r"installed are .*mock"):
        async with running_server(engine="nobody"):
            pass
