"""Portraits that calls use, by name: the dialled user part, else the default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT = "default"
MAX_BYTES = 20_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
}


class AvatarError(ValueError):
    """A name or picture that cannot be used; the message is one clear sentence."""


@dataclass(frozen=True)
class Portrait:
    """A stored portrait: its name, the file with the uploaded bytes, and their media type."""

    name: str
    path: Path
    media_type: str


class AvatarCatalog:
    """Portraits in a folder, one file each; the default is a file of its own that is never overwritten."""

    def __init__(self, folder: Path, default_image: Path) -> None:
        if not default_image.is_file():
            raise AvatarError(f"the default portrait {default_image} does not exist")
        self._folder = folder
        self._default = default_image

    def names(self) -> list[str]:
        """All names, the default first."""
        stored = sorted(path.stem for path in self._folder.glob("*.image")) if self._folder.is_dir() else []
        return [DEFAULT, *(name for name in stored if name != DEFAULT)]

    def get(self, name: str) -> Portrait | None:
        """The portrait of this name."""
        path = self._folder / f"{name}.image"
        if _NAME.fullmatch(name) and path.is_file():
            return Portrait(name, path, media_type(_head(path)))
        if name == DEFAULT:
            return Portrait(DEFAULT, self._default, media_type(_head(self._default)))
        return None

    def for_user(self, user: str) -> Portrait:
        """The portrait for a dialled user part, else the default."""
        found = self.get(user.lower()) or self.get(DEFAULT)
        assert found is not None
        return found

    def check(self, name: str, data: bytes) -> str:
        """The media type, if this can be stored. Raises :class:`AvatarError`."""
        if not _NAME.fullmatch(name):
            raise AvatarError(f"'{name}' is not an avatar name: use up to 64 of a-z, 0-9, - and _")
        if len(data) > MAX_BYTES:
            raise AvatarError(f"the picture has {len(data)} bytes: at most {MAX_BYTES} are taken")
        kind = media_type(data[:16])
        if not kind:
            raise AvatarError("this is not a picture: upload a JPEG, PNG, WebP, BMP or TIFF file")
        return kind

    def put(self, name: str, data: bytes) -> Portrait:
        """Store a portrait. Raises :class:`AvatarError`."""
        kind = self.check(name, data)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.image"
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(path)
        return Portrait(name, path, kind)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def media_type(head: bytes) -> str:
    """Media type by the first bytes, empty when it is no picture."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
