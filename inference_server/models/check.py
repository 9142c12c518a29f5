"""Which model files are there and whole: one list, in words."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inference_server.models.manifest import ModelFile

CHECKSUMS = "checksums.json"
State = Literal["ok", "missing", "damaged", "unknown"]
ACCEPT_HINT = (
    "no digest of it is pinned: compare this one with a source that you trust, then name it, --accept or "
    "VISAVIS_MODELS_ACCEPT"
)


@dataclass(frozen=True)
class Found:
    """One line of the list. ``path``: the file that was found or looked for."""

    file: ModelFile
    path: Path
    state: State
    detail: str = ""

    def line(self) -> str:
        """``missing  unet.pth (3.4 GB): ...`` as a person reads it."""
        return f"{self.state:8} {self.path}" + (f": {self.detail}" if self.detail else "")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def known_checksums(root: Path) -> dict[str, str]:
    """Digests that the hub told when files were fetched, by path below ``root``."""
    try:
        known = json.loads((root / CHECKSUMS).read_text())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in known.items()} if isinstance(known, dict) else {}


def find(root: Path, file: ModelFile) -> Path | None:
    """Where the file is, under its own name or another accepted one."""
    return next((root / name for name in (file.path, *file.also) if (root / name).is_file()), None)


def check(
    root: Path, files: Iterable[ModelFile], *, deep: bool = False, accept: Collection[str] = ()
) -> list[Found]:
    """State of every file. ``deep`` reads them whole and compares SHA-256: the pinned one, else that of the
    download, else one of ``accept``; without it a file is damaged when it is cut short or its container cannot be
    opened."""
    known = known_checksums(root)
    return [_check_one(root, file, known, deep, accept) for file in files]


def _check_one(
    root: Path, file: ModelFile, known: dict[str, str], deep: bool, accept: Collection[str]
) -> Found:
    path = find(root, file)
    if path is None:
        size = f" ({file.size / 1e9:.2f} GB)" if file.size > 50_000_000 else ""
        return Found(file, root / file.path, "missing", f"{file.repo}, {file.remote}{size}")
    if problem := container_problem(path):
        return Found(file, path, "damaged", problem)
    if deep:
        pinned = file.sha256 if path == root / file.path else ""
        wanted = pinned or known.get(str(path.relative_to(root)), "")
        found = sha256_of(path)
        if wanted and found != wanted:
            return Found(file, path, "damaged", "its SHA-256 is not the published one; download it again")
        if not wanted and file.needs_digest and found not in accept:
            return Found(file, path, "unknown", f"its SHA-256 is {found}, and {ACCEPT_HINT}")
    return Found(file, path, "ok")


def container_problem(path: Path) -> str:
    """What is wrong with the outer form of a weight or configuration file; "" when nothing is."""
    again = "download it again"
    try:
        size = path.stat().st_size
        with path.open("rb") as f:
            head = f.read(8)
        if not size:
            return f"it is empty; {again}"
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            return "" if _safetensors_whole(path, size, head) else f"it is cut short; {again}"
        elif head.startswith(b"PK"):
            if not zipfile.is_zipfile(path):  # the directory of a zip is at its end
                return f"it is cut short; {again}"
        elif head.lstrip()[:1] == b"<" or head.startswith(b"version "):
            return f"it is a web page or a pointer, not weights; {again}"
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error}); {again}"
    return ""


def _safetensors_whole(path: Path, size: int, head: bytes) -> bool:
    if len(head) < 8:
        return False
    (length,) = struct.unpack("<Q", head)
    if length + 8 > size:
        return False
    with path.open("rb") as f:
        f.seek(8)
        header = json.loads(f.read(length))
    end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    return bool(8 + length + end <= size)
