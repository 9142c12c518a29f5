"""Recordings encrypted at rest: read back wherever, changed wherever, and of no use without the key."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest

from orchestrator.recording.sealed import BLOCK, HEAD, SealedFile, WrongKey, read_key

KEY = bytes(range(32))


def sealed(path: Path, key: bytes = KEY) -> SealedFile:
    path.touch()
    return SealedFile(path.open("r+b"), key)


def test_what_is_written_anywhere_is_read_back(tmp_path: Path) -> None:
    chosen = random.Random(1)
    model = bytearray()
    with sealed(tmp_path / "a") as file:
        for number in range(60):
            at = chosen.randrange(len(model) + 1)
            data = os.urandom(chosen.choice((1, 300, BLOCK - 1, BLOCK, 2 * BLOCK + 5)))
            file.seek(at)
            assert file.write(data) == len(data)
            model[at : at + len(data)] = data
            if number % 7 == 0:
                file.flush()
            at = chosen.randrange(len(model))
            file.seek(at)
            assert file.read(1) == model[at : at + 1]
        assert file.seek(0, io.SEEK_END) == len(model)
    with sealed(tmp_path / "a") as file:
        assert file.readall() == model
        file.seek(BLOCK - 3)
        assert file.read(6) == model[BLOCK - 3 : BLOCK]  # raw: to the end of the block at most
        with pytest.raises(OSError, match="no holes"):
            file.seek(len(model) + 1)
            file.write(b"x")


def test_what_was_flushed_is_there_when_the_process_is_killed(tmp_path: Path) -> None:
    file = sealed(tmp_path / "a")
    file.write(b"x" * (BLOCK + 100))
    file.flush()
    file.write(b"never flushed")
    copy = tmp_path / "copy"
    copy.write_bytes((tmp_path / "a").read_bytes())
    with sealed(copy) as left:
        assert left.readall() == b"x" * (BLOCK + 100)
    file.close()


def test_the_same_twice_is_not_the_same_on_the_disk(tmp_path: Path) -> None:
    for name in "ab":
        with sealed(tmp_path / name) as file:
            file.write(b"secret" * 100)
    one, other = ((tmp_path / name).read_bytes() for name in "ab")
    assert b"secret" not in one and one[HEAD:] != other[HEAD:]


@pytest.mark.parametrize("harm", ["key", "bit", "swapped", "plain"])
def test_another_key_and_changed_files_are_refused(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "a"
    with sealed(path) as file:
        file.write(b"a" * BLOCK + b"b" * BLOCK)
    data = bytearray(path.read_bytes())
    stored = (len(data) - HEAD) // 2
    if harm == "bit":
        data[HEAD + 50] ^= 1
    elif harm == "swapped":
        data[HEAD:] = data[HEAD + stored :] + data[HEAD : HEAD + stored]
    elif harm == "plain":
        data = bytearray(b"no recording of ours" * 9)
    path.write_bytes(data)
    key = b"another key of thirty-two bytes!" if harm == "key" else KEY
    with pytest.raises(WrongKey), sealed(path, key) as file:
        file.read(10)


def test_a_short_key_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short\n")
    with pytest.raises(ValueError, match="has 5 bytes, at least 32 are needed"):
        read_key(tmp_path / "key")
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert read_key(tmp_path / "key") == KEY.strip()
