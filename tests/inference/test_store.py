"""Bodies and avatars on disk: content-addressed, verified, bounded; bundles."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from inference_server.avatars import bundle, ids
from inference_server.avatars.arrays import Damaged, read_prepared, write_body, write_folder, write_prepared
from inference_server.avatars.store import AvatarStore, StoredAvatar
from inference_server.engines.base import BodyLoop, Prepared
from inference_server.engines.mock import MockEngine
from inference_server.errors import RequestError

FPS = Fraction(25)


def make_body(number: int, width: int = 64, height: int = 64) -> BodyLoop:
    body_id = ids.body_id(str(number).encode(), width, height, FPS, "crop", "test")
    engine = MockEngine({"loop_frames": "4"})
    image = np.zeros((8, 8, 3), np.uint8)
    *_, body = engine.make_body(image, body_id=body_id, width=width, height=height, fps=FPS)
    assert isinstance(body, BodyLoop)
    return body


def put(
    store: AvatarStore, number: int, build: str = "b1", engine: str = "e", made_of: int | None = None
) -> StoredAvatar:
    body = make_body(number)
    scratch = store.scratch()
    write_body(scratch, body)
    store.install_body(scratch)
    settings = {"number": str(number)}
    avatar_id = ids.avatar_id(body.body_id, engine, build, settings)
    scratch = store.scratch()
    write_prepared(
        scratch / "prepared", Prepared({"x": np.full(50_000, made_of or number, np.uint8)}, {"n": number})
    )
    return store.install_avatar(scratch, avatar_id, body.body_id, engine, build, settings)


def test_ids_name_everything_that_decides_the_pixels() -> None:
    base = (b"image", 512, 512, FPS, "crop", "loop-1")
    others = [
        (b"imagf", 512, 512, FPS, "crop", "loop-1"),
        (b"image", 510, 512, FPS, "crop", "loop-1"),
        (b"image", 512, 510, FPS, "crop", "loop-1"),
        (b"image", 512, 512, Fraction(30), "crop", "loop-1"),
        (b"image", 512, 512, FPS, "contain", "loop-1"),
        (b"image", 512, 512, FPS, "crop", "loop-2"),
    ]
    assert len({ids.body_id(*case) for case in [base, *others]}) == 7
    assert ids.avatar_id("b", "e", "1", {"a": "1", "b": "2"}) == ids.avatar_id(
        "b", "e", "1", {"b": "2", "a": "1"}
    )
    assert len({ids.avatar_id("b", "e", v, s) for v in "12" for s in ({}, {"a": "1"}, {"a": "2"})}) == 6


def test_what_is_put_in_comes_out_in_another_process_too(tmp_path: Path) -> None:
    avatar = put(AvatarStore(tmp_path, 1 << 30), 7)
    again = AvatarStore(tmp_path, 1 << 30).avatar(avatar.avatar_id)
    assert (
        again is not None and again.settings == {"number": "7"} and (again.engine, again.build) == ("e", "b1")
    )
    expected = make_body(7)
    assert np.array_equal(again.body.frames, expected.frames) and again.body.sha256 == expected.sha256
    prepared = read_prepared(again.folder, verify=True)
    assert prepared.meta == {"n": 7} and int(prepared.arrays["x"][0]) == 7
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("name", ["prepared/x.npy", "prepared/meta.json", "origin/meta.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_is_found_and_removed(tmp_path: Path, name: str, how: str) -> None:
    reports: list[str] = []
    avatar = put(AvatarStore(tmp_path, 1 << 30), 1)
    path = tmp_path / "avatars" / avatar.avatar_id / name
    data = path.read_bytes()
    if how == "remove":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data[:-20] + bytes(20))
    store = AvatarStore(tmp_path, 1 << 30, reports.append)
    assert store.avatar(avatar.avatar_id) is None and len(reports) == 1
    assert put(store, 1).avatar_id == avatar.avatar_id


def test_ids_from_outside_cannot_leave_the_folder(tmp_path: Path) -> None:
    store = AvatarStore(tmp_path / "cache", 1 << 30)
    for text in ("../../etc", "", "/", "A" * 32, "0" * 31, "0" * 32 + "\n"):
        assert store.avatar(text) is None and store.body(text) is None


def test_the_least_recently_used_leave_first_and_those_in_use_stay(tmp_path: Path) -> None:
    store = AvatarStore(tmp_path, 150_000)
    first = put(store, 1)
    store.pin(first.avatar_id)
    second = put(store, 2)
    for stamp, folder in enumerate(
        sorted((tmp_path / "avatars").iterdir()) + sorted((tmp_path / "bodies").iterdir())
    ):
        os.utime(folder, (1000 + stamp, 1000 + stamp))
    third = put(store, 3)
    assert store.avatar(first.avatar_id) is not None and store.avatar(third.avatar_id) is not None
    assert store.avatar(second.avatar_id) is None


def test_only_avatars_of_this_build_are_listed(tmp_path: Path) -> None:
    store = AvatarStore(tmp_path, 1 << 30)
    old, new = put(store, 1, build="b1"), put(store, 1, build="b2")
    assert store.avatar_ids("e", "b1") == [old.avatar_id] and store.avatar_ids("e", "b2") == [new.avatar_id]
    assert old.body_folder == new.body_folder


def exported(tmp_path: Path) -> tuple[StoredAvatar, bytes]:
    avatar = put(AvatarStore(tmp_path / "one", 1 << 30), 5)
    return avatar, b"".join(bundle.write(avatar))


def install(store: AvatarStore, data: bytes, engine: str = "e", build: str = "b1") -> StoredAvatar:
    scratch = store.scratch()
    (scratch / "bundle").write_bytes(data)
    return bundle.install(store, scratch, engine, build)


def test_a_bundle_brings_the_same_avatar(tmp_path: Path) -> None:
    avatar, data = exported(tmp_path)
    copy = install(AvatarStore(tmp_path / "two", 1 << 30), data)
    assert copy.avatar_id == avatar.avatar_id and copy.body.sha256 == avatar.body.sha256


def test_a_bundle_never_replaces_an_avatar_that_is_here(tmp_path: Path) -> None:
    store = AvatarStore(tmp_path / "one", 1 << 30)
    honest = put(store, 5)
    forged = put(AvatarStore(tmp_path / "evil", 1 << 30), 5, made_of=99)
    assert forged.avatar_id == honest.avatar_id
    answered = install(store, b"".join(bundle.write(forged)))
    for avatar in (answered, store.avatar(honest.avatar_id)):
        assert avatar is not None
        prepared = read_prepared(avatar.folder, verify=True)
        assert prepared.arrays["x"][0] == 5
        del prepared  # its files are mapped
    with pytest.raises(Damaged):
        install(store, b"".join(bundle.write(forged))[:-1])


def test_a_bundle_of_another_build_is_refused_with_a_sentence(tmp_path: Path) -> None:
    _, data = exported(tmp_path)
    with pytest.raises(
        RequestError, match="made by engine e build b1 and this server runs e build b9"
    ) as error:
        install(AvatarStore(tmp_path / "two", 1 << 30), data, build="b9")
    assert error.value.kind == "failed_precondition"


def test_any_changed_byte_of_a_bundle_is_found(tmp_path: Path) -> None:
    _, data = exported(tmp_path)
    store = AvatarStore(tmp_path / "two", 1 << 30)
    for at in [*range(0, 40, 3), *range(40, len(data), len(data) // 60), len(data) - 1]:
        changed = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        with pytest.raises((Damaged, RequestError)):
            install(store, changed)
    assert not list((tmp_path / "two" / "avatars").iterdir())


def test_arrays_have_plain_names_and_are_never_pickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        write_folder(tmp_path / "a", {"../x": np.zeros(1)}, {})
    with pytest.raises(ValueError, match="Object arrays"):
        write_folder(tmp_path / "b", {"x": np.array([object()])}, {})
