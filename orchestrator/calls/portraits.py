"""Portraits that calls use, by name: the dialled user part, else the default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

DEFAULT = "default"
MOST_AVATARS = 1000
MAX_BYTES = 20_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SEPARATORS = re.compile(r"[-.() ]")
"""Visual separators (RFC 3966 section 3), and the blank of people; they count in names that are no number."""
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"BM": "image/bmp",
}
_NOT_TAKEN = {
    "HEIC or AVIF": re.compile(rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1|avif|avis)", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "SVG": re.compile(rb"\s*(<\?xml|<svg)"),
    "PDF": re.compile(rb"%PDF-"),
}
"""Pictures that no inference server reads."""


class AvatarError(ValueError):
    """A name or picture that cannot be used; the message is one clear sentence."""


def avatar_name(user: str) -> str:
    """The name that people and trunks mean by a user part, its escapes resolved; perhaps none that is valid.

    A leading +, user parameters (``;phone-context=``), upper case and, in a number, visual separators do not
    count (RFC 3261 section 19.1.6, RFC 3966 sections 3 and 4).
    """
    name = user.partition(";")[0].strip().lower().removeprefix("+")
    digits = _SEPARATORS.sub("", name)
    return digits if digits.isdecimal() else name


@dataclass(frozen=True)
class Portrait:
    """A portrait: its name, the file with the picture, its media type, and whether it ships with Visavis."""

    name: str
    path: Path
    media_type: str
    built_in: bool = False


class AvatarCatalog:
    """Portraits in a folder, one file each, and the built-in ones, which are never overwritten.

    ``default_image`` is a file, or the name of one of ``built_in``. An upload hides the built-in of its name.
    """

    def __init__(
        self, folder: Path, default_image: Path, built_in: Mapping[str, Path] = MappingProxyType({})
    ) -> None:
        self._folder = folder
        self._built_in = built_in
        self._default = built_in.get(str(default_image), default_image)
        if not self._default.is_file():
            known = f": name a file, or one of {', '.join(built_in)}" if built_in else ""
            raise AvatarError(f"the default portrait {default_image} does not exist{known}")

    def names(self) -> list[str]:
        """All names, the default first."""
        stored = {path.stem for path in self._folder.glob("*.image")} if self._folder.is_dir() else set()
        return [DEFAULT, *sorted({*stored, *self._built_in} - {DEFAULT})]

    def get(self, name: str) -> Portrait | None:
        """The portrait of this name, however it is dialled."""
        for spelt in (avatar_name(name), name.lower()):  # a number may be stored as it used to be written
            path = self._folder / f"{spelt}.image"
            if _NAME.fullmatch(spelt) and path.is_file():
                return Portrait(spelt, path, media_type(_head(path)))
        spelt = avatar_name(name)
        picture = self._default if spelt == DEFAULT else self._built_in.get(spelt)
        if picture is None:
            return None
        return Portrait(spelt, picture, media_type(_head(picture)), picture in self._built_in.values())

    def for_user(self, user: str) -> Portrait:
        """The portrait for a dialled user part, else the default."""
        found = self.get(user) or self.get(DEFAULT)
        assert found is not None
        return found

    def check(self, name: str, data: bytes) -> str:
        """The media type, if this can be stored. Raises :class:`AvatarError`."""
        if not _NAME.fullmatch(avatar_name(name)):
            raise AvatarError(
                f"'{name}' is not an avatar name: use a number, or up to 64 of a-z, 0-9, dot, - and _"
            )
        if len(data) > MAX_BYTES:
            raise AvatarError(f"the picture has {len(data)} bytes: at most {MAX_BYTES} are taken")
        kind = media_type(data[:16])
        if not kind:
            for format_name, magic in _NOT_TAKEN.items():
                if magic.match(data):
                    raise AvatarError(f"{format_name} files cannot be read: save the picture as JPEG or PNG")
            raise AvatarError("this is not a picture: upload a JPEG, PNG, WebP or BMP file")
        return kind

    def put(self, name: str, data: bytes) -> Portrait:
        """Store a portrait. Raises :class:`AvatarError`."""
        kind = self.check(name, data)
        name = avatar_name(name)
        if name not in self.names() and len(self.names()) > MOST_AVATARS:
            raise AvatarError(f"{MOST_AVATARS} avatars are stored: delete one that is not needed, then again")
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.image"
        partial = self._folder / f"{name}.partial"
        partial.write_bytes(data)
        partial.replace(path)
        return Portrait(name, path, kind)

    def delete(self, name: str) -> Portrait | None:
        """Erase a portrait; what it was, or ``None`` where there is none. Raises :class:`AvatarError`."""
        portrait = self.get(name)
        if portrait is None:
            return None
        if portrait.name == DEFAULT:
            raise AvatarError("the default avatar cannot be deleted: upload another picture in its place")
        if portrait.built_in:
            raise AvatarError(
                f"{portrait.name} is built in and cannot be deleted: upload a picture in its place"
            )
        portrait.path.unlink(missing_ok=True)
        return portrait


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def media_type(head: bytes) -> str:
    """Media type by the first 12 bytes, empty when it is no picture that is read."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
