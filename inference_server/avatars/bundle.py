"""A prepared avatar and its body as one stream of bytes, for a second server.

Layout: magic, ``u32`` header length, header (JSON), SHA-256 of the header, then the files one after another.
The header names engine and build, the ids, and every file with its size and digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from inference_server.avatars.arrays import Damaged, file_sha256, read_body, read_meta
from inference_server.avatars.ids import avatar_id as make_avatar_id
from inference_server.avatars.ids import is_id
from inference_server.avatars.store import AvatarStore, StoredAvatar
from inference_server.errors import RequestError

MAGIC = b"VISAVIS-AVATAR\x00\x01"
CHUNK = 256 << 10
MOST_HEADER = 1 << 20
_PATH = re.compile(r"(body|prepared)/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def write(avatar: StoredAvatar) -> Iterator[bytes]:
    """The bundle in chunks."""
    places = [
        (f"{top}/{path.name}", path)
        for top, folder in (("body", avatar.body_folder), ("prepared", avatar.folder))
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    files = [
        {"path": name, "size": path.stat().st_size, "sha256": file_sha256(path)} for name, path in places
    ]
    header = json.dumps(
        {
            "version": 1,
            "engine": avatar.engine,
            "build": avatar.build,
            "avatar_id": avatar.avatar_id,
            "body_id": avatar.body.body_id,
            "settings": avatar.settings,
            "files": files,
        }
    ).encode()
    yield MAGIC + struct.pack("!I", len(header)) + header + hashlib.sha256(header).digest()
    for _, path in places:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


def install(store: AvatarStore, scratch: Path, engine: str, build: str) -> StoredAvatar:
    """Install ``scratch/bundle``; an avatar that is here already stays as it is.

    Raises :class:`Damaged`, or :class:`RequestError` for another engine's bundle.
    """
    with (scratch / "bundle").open("rb") as file:
        header = _read_header(file)
        if (header["engine"], header["build"]) != (engine, build):
            raise RequestError(
                "failed_precondition",
                f"The bundle was made by engine {header['engine']} build {header['build']} and this server runs "
                f"{engine} build {build}: prepare the avatar from its image here.",
            )
        body_id, avatar_id, settings = header["body_id"], header["avatar_id"], header["settings"]
        if not is_id(body_id) or avatar_id != make_avatar_id(body_id, engine, build, settings):
            raise Damaged("its ids do not match")
        for entry in header["files"]:
            _copy(file, scratch, entry)
        if file.read(1):
            raise Damaged("something follows its end")
    if read_body(scratch / "body", verify=True).body_id != body_id:
        raise Damaged("its body is another one")
    read_meta(scratch / "prepared", verify=True)
    known = store.avatar(avatar_id)
    if known is not None:
        return known  # an id says what an avatar was made of, and nothing of what lies in a bundle
    if store.body(body_id) is None:
        store.install_body(scratch / "body")
    final = store.scratch()
    (scratch / "prepared").rename(final / "prepared")
    return store.install_avatar(final, avatar_id, body_id, engine, build, settings)


def _read_header(file: BinaryIO) -> dict[str, Any]:
    start = file.read(len(MAGIC) + 4)
    if not start.startswith(MAGIC[:-1]):
        raise Damaged("it does not begin like a bundle")
    if start[len(MAGIC) - 1 : len(MAGIC)] != MAGIC[-1:]:
        raise Damaged("its format is of another version")
    if len(start) < len(MAGIC) + 4:
        raise Damaged("it is cut off")
    (length,) = struct.unpack("!I", start[len(MAGIC) :])
    if length > MOST_HEADER:
        raise Damaged("its header is too long")
    text, digest = file.read(length), file.read(32)
    if hashlib.sha256(text).digest() != digest:
        raise Damaged("its header has changed or is cut off")
    try:
        header: dict[str, Any] = json.loads(text)
        strings = [header[name] for name in ("engine", "build", "avatar_id", "body_id")]
        strings += [*header["settings"].keys(), *header["settings"].values()]
        entries = [(e["path"], e["size"], e["sha256"]) for e in header["files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"its header is incomplete: {error}") from None
    if not all(isinstance(s, str) for s in strings):
        raise Damaged("its header is of another kind")
    for path, size, digest_text in entries:
        good = isinstance(path, str) and isinstance(size, int) and isinstance(digest_text, str)
        if not good or size < 0 or not _PATH.fullmatch(path):
            raise Damaged("its header names a strange file")
    return header


def _copy(file: BinaryIO, scratch: Path, entry: dict[str, Any]) -> None:
    place = scratch / entry["path"]
    place.parent.mkdir(exist_ok=True)
    digest, left = hashlib.sha256(), int(entry["size"])
    with place.open("wb") as out:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise Damaged("it is cut off")
            digest.update(chunk)
            out.write(chunk)
            left -= len(chunk)
    if digest.hexdigest() != entry["sha256"]:
        raise Damaged(f"{entry['path']} has changed")
