"""A portrait on its way to an avatar and its body, through servers that come late, refuse or forget."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.support.fake_server import (
    HEIGHT,
    LOOP,
    WIDTH,
    FakeServer,
    avatar,
    fake_server,
    of_another_version,
)
from visavis.client import pool as pool_module
from visavis.client import wire
from visavis.client.body_cache import BodyCache
from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.errors import InvalidRequest

SOURCE = AvatarSource(b"image of anna", WIDTH, HEIGHT, Fraction(25))
ANNA = wire.avatar_from(avatar())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_USABLE_S", 0.05)
    monkeypatch.setattr(pool_module, "_RETRY_S", 0.05)


class Waits(list[str]):
    """What was told, and a way to wait for it."""

    async def until(self, count: int) -> None:
        async with asyncio.timeout(15):
            while len(self) < count:
                await asyncio.sleep(0.01)


async def test_a_portrait_waits_for_a_server_and_says_so_once(tmp_path: Path) -> None:
    waits = Waits()
    async with fake_server(FakeServer(known=set())) as gone:
        port = int(gone.address.rpartition(":")[2])
    async with ServerPool(gone.address) as pool:
        ready = asyncio.create_task(pool.ready(SOURCE, BodyCache(tmp_path), on_wait=waits.append))
        await waits.until(1)
        await asyncio.sleep(0.2)
        assert waits == [f"no avatar server at {gone.address} can be used now: start one"]
        async with fake_server(FakeServer(known=set()), port) as server, asyncio.timeout(15):
            made, body = await ready
            assert (made, len(body), server.prepares) == (ANNA, LOOP, 1)
            assert waits[1:] == [""]


async def test_a_refused_portrait_is_not_tried_again(tmp_path: Path) -> None:
    async with fake_server() as server, ServerPool(server.address) as pool:
        with pytest.raises(InvalidRequest, match="not an image"):
            await pool.ready(AvatarSource(b"text", WIDTH, HEIGHT), BodyCache(tmp_path))
        assert server.prepares == 1


async def test_what_was_prepared_before_is_only_fetched(tmp_path: Path) -> None:
    async with fake_server() as server, ServerPool(server.address) as pool:
        await pool.wait_usable(15)
        assert (await pool.ready(SOURCE, BodyCache(tmp_path), avatar=ANNA))[0] == ANNA
        assert (server.prepares, server.fetches) == (0, 1)
    async with ServerPool(server.address) as pool:  # nobody is asked for what is at hand
        assert len((await pool.ready(SOURCE, BodyCache(tmp_path), avatar=ANNA))[1]) == LOOP


async def test_a_body_that_is_not_what_its_digest_says_is_prepared_and_fetched_again(tmp_path: Path) -> None:
    waits = Waits()
    async with fake_server() as server, ServerPool(server.address) as pool:
        lies = replace(ANNA, body_sha256=b"\1" * 32)
        ready = asyncio.create_task(
            pool.ready(SOURCE, BodyCache(tmp_path), avatar=lies, on_wait=waits.append)
        )
        await pool.wait_usable(15)
        async with asyncio.timeout(15):
            made, _ = await ready
        assert made == ANNA and server.prepares == 1
        assert any("fetch the body again" in wait for wait in waits)


async def test_a_disk_that_cannot_be_written_is_waited_for(tmp_path: Path) -> None:
    bodies, waits = BodyCache(tmp_path), Waits()
    bodies.directory = tmp_path / "gone"
    async with fake_server() as server, ServerPool(server.address) as pool:
        await pool.wait_usable(15)
        ready = asyncio.create_task(pool.ready(SOURCE, bodies, on_wait=waits.append))
        await waits.until(1)
        assert "No such file or directory" in waits[0]
        bodies.directory.mkdir()
        async with asyncio.timeout(15):
            await ready
        assert server.prepares == 1  # the avatar is kept


async def test_a_preparation_that_is_given_up_leaves_no_portrait_behind(tmp_path: Path) -> None:
    bodies, waits = BodyCache(tmp_path), Waits()
    bodies.directory = tmp_path / "gone"
    async with fake_server() as server, ServerPool(server.address) as pool:
        await pool.wait_usable(15)
        ready = asyncio.create_task(pool.ready(SOURCE, bodies, on_wait=waits.append))
        await waits.until(1)
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        assert pool._replicas._sources == {}


async def test_a_cache_that_cannot_be_written_is_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    waits, cache = Waits(), BodyCache(tmp_path)
    async with fake_server(FakeServer(known=set())) as server, ServerPool(server.address) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(cache, "writer", Mock(side_effect=full))
            ready = asyncio.create_task(pool.ready(SOURCE, cache, on_wait=waits.append))
            await waits.until(1)
        sentence = (
            f"the cache of bodies, {tmp_path}, cannot be written (No space left on device): make room there"
        )
        assert waits == [sentence]
        async with asyncio.timeout(15):
            assert (await ready)[0] == ANNA


async def test_an_avatar_whose_servers_were_replaced_meanwhile_is_prepared_anew(tmp_path: Path) -> None:
    """Those that there are now make another body of the portrait: that is no refusal of it."""
    new = of_another_version()
    async with fake_server(new) as server, ServerPool(server.address) as pool:
        await pool.wait_usable(15)
        async with asyncio.timeout(15):
            made, body = await pool.ready(SOURCE, BodyCache(tmp_path), avatar=ANNA)
        assert made == wire.avatar_from(new.makes) and len(body) == new.makes.loop_length
