"""An orchestrator with two media workers in front of a server that counts what it is asked to prepare."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.fake_server import FakeServer, avatar, fake_server
from tests.support.house import orchestrator, picture
from visavis.avatar.v1 import avatar_pb2 as pb


class Counting(FakeServer):
    """Takes every picture; each is an avatar of its own with the same body."""

    async def PrepareAvatar(self, request: Any, context: Any) -> AsyncIterator[pb.PrepareAvatarProgress]:
        self.prepares += 1
        name = f"avatar{len(request.image)}"
        self.known.add(name)
        yield pb.PrepareAvatarProgress(progress=1.0, avatar=avatar(name))
        self.change()


def ready(log: list[dict[str, Any]]) -> set[tuple[int, str]]:
    """Which media worker has which avatar ready."""
    told = [line for line in log if line["event"] == "avatar_in_worker" and line["state"] == "ready"]
    return {(line["worker"], line["avatar"]) for line in told}


@pytest.mark.process
async def test_one_upload_is_one_preparation_for_two_media_workers() -> None:
    async with (
        fake_server(Counting()) as server,
        orchestrator([server.address], media_workers=2) as house,
    ):
        async with asyncio.timeout(60):
            while len(ready(house.log)) < 2:
                await asyncio.sleep(0.05)
            assert server.prepares == 1
            answer = await house.api.put("/v1/avatars/anna", content=picture(5, 64))
            assert answer.status_code == 200, answer.text
            while len(ready(house.log)) < 4:
                await asyncio.sleep(0.05)
        assert server.prepares == 2 and server.fetches == 1
        status = await house.status()
        assert status["talking_face"] and len(status["workers"]) == 2
        assert {worker for worker, _ in ready(house.log)} == {one["pid"] for one in status["workers"]}
