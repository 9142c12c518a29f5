"""Bodies and prepared avatars on disk, by content; the least recently used go when the folder is full.

Written to a temporary folder beside and renamed, so that a crash leaves nothing half. Everything is verified
once per process, when it is first used; what is damaged is removed and made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_server.avatars.arrays import META, Damaged, read_body, read_meta, write_folder
from inference_server.avatars.ids import is_id
from inference_server.engines.base import BodyLoop
from inference_server.errors import RequestError, unavailable
from visavis.service.byte_budget import Entry, beyond_budget


@dataclass(frozen=True)
class StoredAvatar:
    """A prepared avatar: its folders, its body and what it was prepared by."""

    avatar_id: str
    folder: Path
    body_folder: Path
    body: BodyLoop
    engine: str
    build: str
    settings: dict[str, str]


class AvatarStore:
    """``root/bodies/ID`` and ``root/avatars/ID/{prepared,origin.json as meta}``."""

    def __init__(
        self, root: Path, disk_bytes: int, on_damage: Callable[[str], None] = lambda sentence: None
    ) -> None:
        self._root = root
        self._bodies = root / "bodies"
        self._avatars = root / "avatars"
        self._tmp = root / "tmp"
        self._disk_bytes = disk_bytes
        self._on_damage = on_damage
        self._open: OrderedDict[str, StoredAvatar] = OrderedDict()
        self._pinned: dict[str, int] = {}
        self._lock = threading.RLock()  # several requests may read and install at once, in threads
        for folder in (self._bodies, self._avatars, self._tmp):
            folder.mkdir(parents=True, exist_ok=True)
        self._own: Path | None = None
        self._owned = -1
        self._clean()

    def __del__(self) -> None:
        if getattr(self, "_owned", -1) >= 0:
            os.close(self._owned)

    # --- reading --------------------------------------------------------------------------------------

    def avatar_ids(self, engine: str, build: str) -> list[str]:
        """Avatars that this engine build prepared."""
        found = []
        for folder in self._avatars.iterdir():
            with contextlib.suppress(Damaged):
                _, meta = read_meta(folder / "origin", verify=False)
                if (meta.get("engine"), meta.get("build")) == (engine, build):
                    found.append(folder.name)
        return sorted(found)

    def holds(self, avatar_id: str) -> bool:
        """Whether the avatar is still on disk."""
        return (self._avatars / avatar_id).exists()

    def body(self, body_id: str) -> BodyLoop | None:
        """A body loop, verified; ``None`` where there is none (any more)."""
        folder = self._bodies / body_id
        if not is_id(body_id) or not folder.exists():
            return None
        try:
            body = read_body(folder, verify=True)
        except Damaged as error:
            self._remove(folder, f"body {error}")
            return None
        _touch(folder)
        return body

    def avatar(self, avatar_id: str) -> StoredAvatar | None:
        """A prepared avatar with its body, verified; ``None`` where there is none (any more)."""
        if not is_id(avatar_id):
            return None
        with self._lock:
            return self._avatar(avatar_id)

    def _avatar(self, avatar_id: str) -> StoredAvatar | None:
        folder = self._avatars / avatar_id
        known = self._open.get(avatar_id)
        if known is not None and folder.exists():
            self._open.move_to_end(avatar_id)
            _touch(folder)
            _touch(known.body_folder)
            return known
        if not folder.exists():
            self._open.pop(avatar_id, None)
            return None
        try:
            _, origin = read_meta(folder / "origin", verify=True)
            read_meta(folder / "prepared", verify=True)
            body_id = str(origin["body_id"])
            settings = {str(k): str(v) for k, v in origin["settings"].items()}
            engine, build = str(origin["engine"]), str(origin["build"])
        except (Damaged, KeyError, AttributeError) as error:
            self._remove(folder, f"avatar {error}")
            return None
        body = self.body(body_id)
        if body is None:
            return None
        avatar = StoredAvatar(
            avatar_id, folder / "prepared", self._bodies / body_id, body, engine, build, settings
        )
        self._open[avatar_id] = avatar
        while len(self._open) > 256:
            self._open.popitem(last=False)
        _touch(folder)
        return avatar

    def body_folder(self, body_id: str) -> Path:
        """Where a body lies or would lie."""
        return self._bodies / body_id

    # --- writing --------------------------------------------------------------------------------------

    def scratch(self) -> Path:
        """A new, empty folder on the same disk, for something to be installed."""
        if self._own is None:
            own = self._tmp / uuid.uuid4().hex
            own.mkdir()
            self._owned = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._owned, fcntl.LOCK_EX)
            self._own = own
        folder = self._own / uuid.uuid4().hex
        folder.mkdir()
        return folder

    def unwritable(self, error: OSError) -> RequestError:
        """A disk that is full or was taken away: not the upload's fault, so another try may do."""
        reason = (error.strerror or str(error)).rstrip(".")
        return unavailable(
            f"The cache of avatars, {self._root}, cannot be written ({reason}): make room there, or name another "
            "folder in VISAVIS_INFERENCE_CACHE_DIR."
        )

    def discard(self, folder: Path) -> None:
        """A scratch folder that is not installed after all."""
        shutil.rmtree(folder, ignore_errors=True)

    def install_body(self, scratch: Path) -> BodyLoop:
        """Verify a body written by ``write_body`` and take it over. Raises :class:`Damaged`."""
        body = read_body(scratch, verify=True)
        if not is_id(body.body_id):
            raise Damaged(f"body id {body.body_id[:40]!r} is not an id")
        with self._lock:
            self._rename(scratch, self._bodies / body.body_id)
        return read_body(self._bodies / body.body_id, verify=False)

    def install_avatar(
        self, scratch: Path, avatar_id: str, body_id: str, engine: str, build: str, settings: dict[str, str]
    ) -> StoredAvatar:
        """Verify ``scratch/prepared`` and take it over as ``avatar_id``. Raises :class:`Damaged`."""
        read_meta(scratch / "prepared", verify=True)
        origin: dict[str, Any] = {"body_id": body_id, "engine": engine, "build": build, "settings": settings}
        write_folder(scratch / "origin", {}, origin)
        with self._lock:
            self._rename(scratch, self._avatars / avatar_id)
            self._open.pop(avatar_id, None)
            avatar = self._avatar(avatar_id)
            if avatar is None:
                raise Damaged(f"avatar {avatar_id} could not be read back")
            self._shrink(keep=avatar)
        return avatar

    def pin(self, avatar_id: str) -> None:
        """Keep this avatar on disk while it is in use."""
        self._pinned[avatar_id] = self._pinned.get(avatar_id, 0) + 1

    def unpin(self, avatar_id: str) -> None:
        """It is used once less."""
        left = self._pinned.get(avatar_id, 0) - 1
        if left > 0:
            self._pinned[avatar_id] = left
        else:
            self._pinned.pop(avatar_id, None)

    # --------------------------------------------------------------------------------------------------

    def _clean(self) -> None:
        """Remove what processes left behind that are no more: they held a lock on their scratch folders."""
        for folder in self._tmp.iterdir():
            try:
                held = os.open(folder, os.O_RDONLY)
            except OSError:
                continue
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                pass  # somebody works there
            finally:
                os.close(held)

    def _rename(self, scratch: Path, place: Path) -> None:
        try:
            scratch.rename(place)
        except OSError:
            # somebody else was first, or what lies there is damaged: ours is verified and replaces it
            self.discard(old := self._tmp / uuid.uuid4().hex)
            place.rename(old)
            scratch.rename(place)
            self.discard(old)

    def _remove(self, folder: Path, sentence: str) -> None:
        self._on_damage(sentence)
        self._open.pop(folder.name, None)
        shutil.rmtree(folder, ignore_errors=True)

    def _shrink(self, keep: StoredAvatar) -> None:
        """Remove the least recently used avatars, then bodies that no avatar needs, until all fits."""
        folders = [folder for top in (self._avatars, self._bodies) for folder in top.iterdir()]
        there = [Entry(_used(folder), _size(folder), folder) for folder in folders]
        in_use = {self._open[a].body.body_id for a in self._pinned if a in self._open}
        in_use |= {keep.avatar_id, keep.body.body_id, *self._pinned}
        kept = {folder for folder in folders if folder.name in in_use}
        under_way = sum(path.stat().st_size for path in self._tmp.rglob("*") if path.is_file())
        for folder in beyond_budget(there, max(0, self._disk_bytes - under_way), kept):
            shutil.rmtree(folder, ignore_errors=True)
            self._open.pop(folder.name, None)
            for avatar_id in [a for a, s in self._open.items() if s.body.body_id == folder.name]:
                del self._open[avatar_id]


def _touch(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(folder)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != META)
