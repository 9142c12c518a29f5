"""Uploads and preparations: nobody's many make another's one wait, and what waits is on disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference_server import uploads
from inference_server.avatars.store import AvatarStore
from inference_server.errors import RequestError
from inference_server.fair_turns import FairTurns
from inference_server.uploads import HEAD, Uploads


def uploads_of(folder: Path, places: int = 8) -> Uploads:
    store = AvatarStore(folder, 10**9)
    return Uploads(store.scratch, store.unwritable, places)


async def pieces(count: int, size: int = 100_000, *, broken: bool = False) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number]) * size
    if broken:
        raise ConnectionError("gone")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_client_that_has_cost_least_comes_next() -> None:
    turns, order = FairTurns(1), list[str]()

    async def work(client: str, cost: float) -> None:
        async with turns.turn(client, cost):
            order.append(client)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(work("greedy", 1.0)) for _ in range(6)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(work("small", 1.0)) for _ in range(2)]
    tasks += [asyncio.create_task(work("large", 3.0)) for _ in range(2)]
    await asyncio.gather(*tasks)
    assert order.index("small") <= 2 and order.index("large") <= 3
    assert [place for place, client in enumerate(order) if client == "small"][1] <= 5
    assert order[-1] in ("greedy", "large")


async def test_who_leaves_the_line_leaves_its_place() -> None:
    turns = FairTurns(1)
    held = turns.turn("a", 1.0)
    await held.__aenter__()
    waiting = [asyncio.create_task(turns.turn("b", 1.0).__aenter__()) for _ in range(3)]
    await settle()
    for task in waiting[:2]:
        task.cancel()
    await settle()
    await held.__aexit__(None, None, None)
    await settle()
    assert waiting[2].done() and not waiting[2].cancelled()


async def test_who_leaves_while_a_folder_is_made_leaves_none(tmp_path: Path) -> None:
    come, go = threading.Event(), threading.Event()

    def scratch() -> Path:
        come.set()
        assert go.wait(10)
        folder = tmp_path / "upload"
        folder.mkdir()
        return folder

    taking = Uploads(scratch, AvatarStore(tmp_path / "store", 10**9).unwritable)
    begins = asyncio.create_task(taking.begin())
    await asyncio.to_thread(come.wait, 10)
    begins.cancel()
    await asyncio.gather(begins, return_exceptions=True)
    go.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


async def test_a_piece_that_comes_after_the_end_makes_no_file(tmp_path: Path) -> None:
    upload = await uploads_of(tmp_path).begin()
    upload.path.unlink()  # what discarding does first
    with pytest.raises(FileNotFoundError):
        upload.append(b"late")
    upload.discard()
    assert not upload.path.parent.exists()


async def test_a_slow_upload_is_given_up_and_others_wait_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "RECEIVE_S", 0.05)
    places = uploads_of(tmp_path, 1)

    async def slow() -> None:
        async with places.place("slow"):
            await asyncio.Event().wait()

    dripping = [asyncio.create_task(slow()) for _ in range(5)]
    await settle()
    async with asyncio.timeout(5), places.place("honest"):
        assert sum(task.done() for task in dripping) == 1  # it came before the other four
    for result in await asyncio.gather(*dripping, return_exceptions=True):
        assert isinstance(result, RequestError) and "did not come within" in result.sentence


async def test_who_finds_no_place_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "WAIT_S", 0.05)
    places = uploads_of(tmp_path, 1)
    async with places.place("one"):
        with pytest.raises(RequestError, match="try again later"):
            async with places.place("two"):
                pass
    async with places.place("two"):
        pass


async def test_of_an_upload_only_its_beginning_is_in_memory(tmp_path: Path) -> None:
    upload = await uploads_of(tmp_path).keep(pieces(3))
    whole = b"".join([piece async for piece in pieces(3)])
    assert upload.path.read_bytes() == whole and upload.size == len(whole)
    assert upload.head == whole[:HEAD] and upload.digest == hashlib.sha256(whole).digest()
    upload.discard()
    assert not upload.path.parent.exists()


async def test_an_upload_that_breaks_off_or_is_let_go_leaves_nothing(tmp_path: Path) -> None:
    taking = uploads_of(tmp_path)
    with pytest.raises(ConnectionError):
        await taking.keep(pieces(2, broken=True))
    await taking.keep(pieces(1))
    async with asyncio.timeout(10):
        while list((tmp_path / "tmp").rglob("file")):  # the thread that wrote it lets go of it, too
            await asyncio.sleep(0.001)


async def test_an_upload_that_the_disk_does_not_take_is_told_to_try_again(tmp_path: Path) -> None:
    store = AvatarStore(tmp_path, 10**9)
    taking = Uploads(lambda: tmp_path / "nowhere", store.unwritable)
    with pytest.raises(RequestError, match="cannot be written") as refused:
        await taking.keep(pieces(1))
    assert refused.value.kind == "unavailable"


async def test_one_upload_at_a_time_is_in_memory_whole(tmp_path: Path) -> None:
    taking = uploads_of(tmp_path)
    inside: list[str] = []

    async def take(name: str, *, whole: bool) -> None:
        async with taking.place(name, whole=whole):
            inside.append(name)
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(take(f"{n}", whole=n % 2 == 0)) for n in range(6)]
    await settle()
    assert inside == ["0", "1", "3", "5"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.process
def test_scratch_of_a_server_that_was_killed_is_gone_at_the_next_start(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from inference_server.avatars.store import AvatarStore
store = AvatarStore(Path({str(tmp_path)!r}), 10**9)
(store.scratch() / "bundle").write_bytes(bytes(1000))
print("written", flush=True)
{{}}
"""
    kill = code.format("os.kill(os.getpid(), signal.SIGKILL)")
    subprocess.run([sys.executable, "-c", kill], env=os.environ, timeout=60, check=False)
    assert len(list((tmp_path / "tmp").rglob("bundle"))) == 1
    alive = subprocess.Popen(
        [sys.executable, "-c", code.format("input()")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert alive.stdin and alive.stdout and alive.stdout.readline() == b"written\n"
    left = list((tmp_path / "tmp").rglob("bundle"))
    assert len(left) == 1  # its own
    AvatarStore(tmp_path, 10**9)
    assert list((tmp_path / "tmp").rglob("bundle")) == left  # somebody works there
    alive.communicate(b"\n", timeout=60)
    AvatarStore(tmp_path, 10**9)
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_a_slow_sender_takes_no_turn_of_those_in_memory(tmp_path: Path) -> None:
    taking, go = uploads_of(tmp_path), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"begun"
        await go.wait()
        yield b" and ended"

    async def take() -> bytes:
        async with taking.whole("slow", slow()) as data:
            return data

    task = asyncio.create_task(take())
    async with asyncio.timeout(10):
        while not list((tmp_path / "tmp").rglob("file")):
            await asyncio.sleep(0.001)
        async with taking.place("honest", whole=True):
            go.set()
        assert await task == b"begun and ended"
    assert list((tmp_path / "tmp").rglob("file")) == []
