"""The cache of bodies: loop frames, each body in one memory-mapped file that all calls and processes share.

A file is a 4096-byte JSON header, then the frames as they are; where some are the same, each picture once, and
after them for every frame which of them it is (little-endian uint32). It is written beside its place and moved in
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

from visavis.client.model import Avatar
from visavis.errors import BodyCorrupt
from visavis.frames import I420, LoopFrames, SharedFrames, digest
from visavis.service.byte_budget import beyond_budget, entries

_HEADER = 4096
_MAGIC = "visavis-body-1"
_SUFFIX = ".body"
_NEW = ".new-"
_ORPHAN_S = 3600.0


@dataclass(frozen=True, eq=False)
class Body:
    """The loop that idle plays and every mouth is pasted on.

    ``frames``: read-only ``(n, height * 3 // 2, width)`` uint8, I420, an array or
    :class:`visavis.frames.SharedFrames`. ``jumps``: pairs (from, to).
    ``segments``: pairs (start, what the body does from there on).
    """

    width: int
    height: int
    fps: Fraction
    frames: LoopFrames
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
        self._order: list[int] = []
        self._known: dict[bytes, int] = {}  # pictures by their digest
        handle, name = tempfile.mkstemp(prefix=_NEW, suffix=_SUFFIX, dir=directory)
        self._temporary = Path(name)
        self._file: IO[bytes] = os.fdopen(handle, "w+b")
        self._file.write(b"".ljust(_HEADER))

    def write(self, pixels: bytes) -> None:
        """The next frame. Raises :class:`BodyCorrupt` where its size is wrong or there are too many."""
        self._check(pixels)
        self._hash.update(pixels)
        name = hashlib.blake2b(pixels, digest_size=16).digest()
        if name not in self._known:
            self._known[name] = len(self._known)
            self._file.write(pixels)
        self._order.append(self._known[name])

    def repeat(self, index: int) -> None:
        """The next frame, which is the picture of frame ``index``. Raises :class:`BodyCorrupt` as :meth:`write`."""
        if not 0 <= index < len(self._order):
            raise BodyCorrupt(f"body frame {len(self._order)} repeats frame {index}, which has not come")
        place = self._order[index]
        self._file.seek(_HEADER + place * self._avatar.frame_bytes)
        pixels = self._file.read(self._avatar.frame_bytes)
        self._file.seek(0, os.SEEK_END)
        self._check(pixels)
        self._hash.update(pixels)
        self._order.append(place)

    def _check(self, pixels: bytes) -> None:
        count = len(self._order)
        if len(pixels) != self._avatar.frame_bytes or count == self._avatar.loop_length:
            raise BodyCorrupt(
                f"body frame {count} has {len(pixels)} bytes, expected {self._avatar.loop_length} frames"
                f" of {self._avatar.frame_bytes}"
            )

    def commit(self) -> None:
        """Raises :class:`BodyCorrupt` unless all frames are there and have the digest that names them."""
        avatar, count = self._avatar, len(self._order)
        if count != avatar.loop_length or self._hash.digest() != avatar.body_sha256:
            raise BodyCorrupt(
                f"the {count} loop frames that came are not the {avatar.loop_length} that the server"
                " named by their digest: fetch the body again"
            )
        if len(self._known) < count:
            self._file.write(np.array(self._order, "<u4").tobytes())
        about = {
            "magic": _MAGIC,
            "frames": count,
            "pictures": len(self._known),
            "width": avatar.width,
            "height": avatar.height,
            "sha256": avatar.body_sha256.hex(),
        }
        self._file.seek(0)
        self._file.write(json.dumps(about).encode().ljust(_HEADER))
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
        self._open: dict[Path, tuple[int, LoopFrames]] = {}
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

    def _load(self, path: Path, avatar: Avatar) -> LoopFrames | None:
        count = avatar.loop_length
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(_HEADER))
            kept = int(header.get("pictures", count))
            shape = (kept, avatar.height * 3 // 2, avatar.width)
            end = _HEADER + int(np.prod(shape))
            size = end + (4 * count if kept < count else 0)
            if header.get("magic") != _MAGIC or not 0 < kept <= count or path.stat().st_size != size:
                return None
            frames: LoopFrames = np.memmap(path, np.uint8, mode="r", offset=_HEADER, shape=shape)
            if kept < count:
                order = np.fromfile(path, "<u4", count, offset=end)
                frames = SharedFrames(np.asarray(frames), order)
            return frames if digest(frames) == avatar.body_sha256 else None
        except (OSError, ValueError, AttributeError, IndexError):
            return None


def _usual_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "visavis" / "bodies"
