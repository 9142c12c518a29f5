"""The cache of bodies: loop frames, each body in one memory-mapped file that all calls and processes share.

A file is a 4096-byte JSON header, then the frames as they are. It is written beside its place and moved in
whole, so that a reader never sees half a body; it is named after the digest of its pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from visavis.client.model import Avatar
from visavis.errors import BodyCorrupt
from visavis.frames import I420
from visavis.service.byte_budget import beyond_budget, entries

_HEADER = 4096
_MAGIC = "visavis-body-1"
_SUFFIX = ".body"
_NEW = ".new-"
_ORPHAN_S = 3600.0


@dataclass(frozen=True, eq=False)
class Body:
    """The loop that idle plays and every mouth is pasted on.

    ``frames``: read-only ``(n, height * 3 // 2, width)`` uint8, I420. ``jumps``: pairs (from, to).
    ``segments``: pairs (start, what the body does from there on).
    """

    width: int
    height: int
    fps: Fraction
    frames: NDArray[np.uint8]
    sha256: bytes
    jumps: tuple[tuple[int, int], ...] = ()
    segments: tuple[tuple[int, str], ...] = ()

    @property
    def body_id(self) -> str:
        """Names its pixels."""
        return self.sha256.hex()[:32]

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> I420:
        """Body frame ``index`` modulo the length; a view, not a copy."""
        picture: I420 = self.frames[index % len(self.frames)]
        return picture


class BodyWriter:
    """Takes the frames of one body in order; :meth:`commit` checks the digest and puts the file in place."""

    def __init__(self, avatar: Avatar, directory: Path, path: Path) -> None:
        self._avatar = avatar
        self._path = path
        self._hash = hashlib.sha256()
        self._count = 0
        handle, name = tempfile.mkstemp(prefix=_NEW, suffix=_SUFFIX, dir=directory)
        self._temporary = Path(name)
        self._file: IO[bytes] = os.fdopen(handle, "wb")
        about = {
            "magic": _MAGIC,
            "frames": avatar.loop_length,
            "width": avatar.width,
            "height": avatar.height,
        }
        header = json.dumps({**about, "sha256": avatar.body_sha256.hex()}).encode()
        self._file.write(header.ljust(_HEADER))

    def write(self, pixels: bytes) -> None:
        """The next frame. Raises :class:`BodyCorrupt` where its size is wrong or there are too many."""
        if len(pixels) != self._avatar.frame_bytes or self._count == self._avatar.loop_length:
            raise BodyCorrupt(
                f"body frame {self._count} has {len(pixels)} bytes, expected {self._avatar.loop_length} frames"
                f" of {self._avatar.frame_bytes}"
            )
        self._file.write(pixels)
        self._hash.update(pixels)
        self._count += 1

    def commit(self) -> None:
        """Raises :class:`BodyCorrupt` unless all frames are there and have the digest that names them."""
        if self._count != self._avatar.loop_length or self._hash.digest() != self._avatar.body_sha256:
            raise BodyCorrupt(
                f"the {self._count} loop frames that came are not the {self._avatar.loop_length} that the server"
                " named by their digest: fetch the body again"
            )
        self._file.close()
        self._temporary.replace(self._path)

    def abort(self) -> None:
        """Throw away what was written; nothing after a commit."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class BodyCache:
    """Bodies on disk, at most ``max_bytes`` of them, least recently used out first.

    ``directory``: without one, ``visavis/bodies`` under ``XDG_CACHE_HOME`` or ``~/.cache``.

    Several processes may share a directory: files are put in place whole, and a file that is dropped stays
    readable to whoever has it mapped. Blocking calls; a body is read from disk only when its pages are used.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, max_bytes: int = 2 << 30) -> None:
        self.directory = Path(directory) if directory else _usual_directory()
        self.max_bytes = max_bytes
        self._open: dict[Path, tuple[int, NDArray[np.uint8]]] = {}
        self.directory.mkdir(parents=True, exist_ok=True)

    def get(self, avatar: Avatar) -> Body | None:
        """The avatar's body, or ``None`` where it must be fetched. Its digest is checked once per process."""
        path = self._path(avatar)
        try:
            inode = path.stat().st_ino
            os.utime(path)
        except OSError:
            self._open.pop(path, None)
            return None
        known = self._open.get(path)
        if known is None or known[0] != inode:
            frames = self._load(path, avatar)
            if frames is None:
                path.unlink(missing_ok=True)
                return None
            known = self._open[path] = (inode, frames)
        about = avatar.width, avatar.height, avatar.fps, known[1], avatar.body_sha256
        return Body(*about, avatar.jumps, avatar.segments)

    @contextlib.contextmanager
    def writer(self, avatar: Avatar) -> Iterator[BodyWriter]:
        """Write a body: ``commit`` inside; without it nothing is kept."""
        writer = BodyWriter(avatar, self.directory, self._path(avatar))
        try:
            yield writer
        finally:
            writer.abort()
        self.evict(keep=self._path(avatar))

    def evict(self, keep: Path | None = None) -> None:
        """Drop the least recently used bodies beyond ``max_bytes``, and what crashed writers left."""
        now = time.time()
        there = list(entries(self.directory.glob(f"*{_SUFFIX}")))
        for new in (entry for entry in there if entry.path.name.startswith(_NEW)):
            if now - new.used > _ORPHAN_S:
                new.path.unlink(missing_ok=True)
        bodies = [entry for entry in there if not entry.path.name.startswith(_NEW)]
        for path in beyond_budget(bodies, self.max_bytes, () if keep is None else {keep}):
            path.unlink(missing_ok=True)
            self._open.pop(path, None)

    def _path(self, avatar: Avatar) -> Path:
        size = f"{avatar.width}x{avatar.height}x{avatar.loop_length}"
        return self.directory / f"{avatar.body_sha256.hex()}-{size}{_SUFFIX}"

    def _load(self, path: Path, avatar: Avatar) -> NDArray[np.uint8] | None:
        shape = (avatar.loop_length, avatar.height * 3 // 2, avatar.width)
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(_HEADER))
            if header.get("magic") != _MAGIC or path.stat().st_size != _HEADER + int(np.prod(shape)):
                return None
            frames = np.memmap(path, np.uint8, mode="r", offset=_HEADER, shape=shape)
        except (OSError, ValueError, AttributeError):
            return None
        digest = hashlib.sha256()
        for frame in frames:
            digest.update(frame)
        return frames if digest.digest() == avatar.body_sha256 else None


def _usual_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "visavis" / "bodies"
