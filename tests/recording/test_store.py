"""Recordings in a folder and in an S3-compatible store: a real server of the package moto, in a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from orchestrator.recording.sealed import SealedFile, WrongKey
from orchestrator.recording.store import Bucket, Store, StoreAway
from testing.ports import free_port
from visavis.service.secret import Secret

NAME = "c1-1.mp4"


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    """The one of the library, which lasts as long as the process."""
    obstore.put(MemoryStore(), "x", b"x")


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """A bucket of a server that serves."""
    import boto3  # with moto, for tests only
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"endpoint_url": f"http://{host}:{port}", "region_name": "eu-central-1"}
    given |= {"aws_access_key_id": "key", "aws_secret_access_key": "seeded-secret"}
    client = boto3.client("s3", **given)
    name = f"calls-{port}"  # the servers of a process share what they hold
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.close()
    yield Bucket(
        f"s3://{name}/of/anna", given["endpoint_url"], "eu-central-1", "key", Secret("seeded-secret")
    )
    server.stop()


def test_a_folder_keeps_its_name_wherever_it_is(tmp_path: Path) -> None:
    place = Store(tmp_path / "a").place
    assert Store(tmp_path / "a").place == place != Store(tmp_path / "b").place
    (tmp_path / "a").rename(tmp_path / "moved")
    assert Store(tmp_path / "moved").place == place


async def test_a_file_in_a_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / NAME).write_bytes(b"0123456789")
    await store.take(NAME)
    with store.open(NAME, False) as file:
        file.seek(4)
        assert file.read() == b"456789"
    await store.delete(NAME)
    await store.delete(NAME)
    with pytest.raises(FileNotFoundError):
        store.open(NAME, False)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_file_is_moved_to_the_store_and_read_from_it(
    tmp_path: Path, bucket: Bucket, encrypted: bool
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 40)
    store = Store(tmp_path / "recordings", bucket, key if encrypted else None)
    assert store.place.startswith("s3://calls-") and store.moves
    content, file = os.urandom(300_000), store.folder / NAME
    store.folder.mkdir()
    if encrypted:
        file.touch()
        with SealedFile(file.open("r+b"), b"k" * 40) as sealed:
            sealed.write(content)
    else:
        file.write_bytes(content)
    await store.take(NAME)
    assert not file.exists()
    await store.take(NAME)  # is there already
    other = Store(tmp_path / "another machine", bucket, key)

    def read() -> bytes:
        with other.open(NAME, encrypted) as found:
            found.seek(100_000)
            part = found.read(100_000)
            found.seek(0)
            assert found.read() == content
            return bytes(part)

    assert await asyncio.to_thread(read) == content[100_000:200_000]
    if encrypted:
        with pytest.raises(WrongKey, match="names no key"):
            await asyncio.to_thread(Store(tmp_path / "no key", bucket).open, NAME, True)
    await other.delete(NAME)
    await other.delete(NAME)
    with pytest.raises(FileNotFoundError):
        await asyncio.to_thread(store.open, NAME, encrypted)


async def test_a_store_that_is_away_loses_nothing(tmp_path: Path) -> None:
    store = Store(
        tmp_path, Bucket("s3://calls", f"http://127.0.0.1:{free_port()}", "", "key", Secret("secret"))
    )
    (tmp_path / NAME).write_bytes(b"x")
    with pytest.raises(StoreAway) as raised:
        await store.take(NAME)
    assert "secret" not in str(raised.value) and (tmp_path / NAME).exists()
    with store.open(NAME, False) as file:  # which is still here
        assert file.read() == b"x"
