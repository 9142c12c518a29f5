"""Arrays and small JSON values in a folder: how bodies and prepared avatars lie on disk. Never pickle."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.base import BodyLoop, Prepared
from visavis.frames import LoopFrames, SharedFrames, digest

META = "meta.json"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Damaged(Exception):
    """A folder does not hold what its meta.json says."""


def write_folder(folder: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write every array as ``NAME.npy`` and at last ``meta.json`` with their digests."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {}
    for name, array in arrays.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"array name {name!r} must be letters, digits, dots and dashes")
        path = folder / f"{name}.npy"
        with path.open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        files[path.name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    record = {"format": FORMAT, "files": files, "meta": dict(meta)}
    (folder / META).write_text(json.dumps(record, indent=1))


def read_meta(folder: Path, *, verify: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(files, meta)`` of a folder. Raises :class:`Damaged`; with ``verify`` every byte is checked."""
    try:
        record = json.loads((folder / META).read_text())
        files, meta = record["files"], record["meta"]
        if record["format"] != FORMAT or not isinstance(meta, dict):
            raise Damaged(f"{folder.name}: unknown format")
        for name, entry in files.items():
            if not name.endswith(".npy") or not _NAME.fullmatch(name.removesuffix(".npy")):
                raise Damaged(f"{folder.name}: strange file name")
            path = folder / name
            if path.stat().st_size != entry["size"] or (verify and file_sha256(path) != entry["sha256"]):
                raise Damaged(f"{folder.name}: {name} has changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder.name}: {error}") from error
    return files, meta


def read_arrays(folder: Path, files: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays of a folder, mapped read-only."""
    try:
        return {
            name.removesuffix(".npy"): np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in files
        }
    except (OSError, ValueError) as error:
        raise Damaged(f"{folder.name}: {error}") from error


def file_sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_body(folder: Path, body: BodyLoop) -> None:
    """A body loop as a folder."""
    frames = body.frames
    write_folder(
        folder,
        {
            "frames": frames.pictures if isinstance(frames, SharedFrames) else frames,
            **({"order": frames.order} if isinstance(frames, SharedFrames) else {}),
            "landmarks": body.landmarks,
            "motion": body.motion,
            "reference": body.reference,
            **({} if body.original is None else {"original": body.original}),
            **({} if body.framing is None else {"framing": body.framing}),
        },
        {
            "body_id": body.body_id,
            "width": body.width,
            "height": body.height,
            "fps": [body.fps.numerator, body.fps.denominator],
            "jumps": [list(jump) for jump in body.jumps],
            "segments": [list(segment) for segment in body.segments],
            "sha256": body.sha256.hex(),
            "cast": body.cast,
        },
    )


def read_body(folder: Path, *, verify: bool) -> BodyLoop:
    """A body loop, its arrays mapped. Raises :class:`Damaged`."""
    files, meta = read_meta(folder, verify=verify)
    arrays = read_arrays(folder, files)
    try:
        width, height = int(meta["width"]), int(meta["height"])
        frames: LoopFrames = arrays["frames"]
        order = arrays.get("order")
        n = len(frames if order is None else order)
        shapes: dict[str, tuple[int, ...]] = {
            "frames": (len(frames), height * 3 // 2, width),
            "landmarks": (n, 468, 2),
            "motion": (n, 2, 3),
            "reference": (height, width, 3),
        }
        kinds = {"frames": np.uint8, "landmarks": np.float32, "motion": np.float32, "reference": np.uint8}
        if "original" in arrays:
            shapes["original"], kinds["original"] = shapes["reference"], np.uint8
        if "framing" in arrays:
            shapes["framing"], kinds["framing"] = (2, 3), np.float32
        if order is not None:
            shapes["order"], kinds["order"] = (n,), np.int32
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype != kinds[name]:
                raise Damaged(f"{folder.name}: {name} has an unexpected shape")
        jumps = tuple((int(a), int(b)) for a, b in meta["jumps"])
        if not n or any(not (0 <= i < n) for jump in jumps for i in jump):
            raise Damaged(f"{folder.name}: the loop is empty or jumps outside itself")
        segments = tuple((int(start), str(kind)) for start, kind in meta.get("segments", ()))
        if order is not None:
            if np.any((order < 0) | (order >= len(frames))):
                raise Damaged(f"{folder.name}: a frame is no picture that is there")
            frames = SharedFrames(arrays["frames"], order)
        sha256 = bytes.fromhex(meta["sha256"])
        if verify and digest(frames) != sha256:
            raise Damaged(f"{folder.name}: the pixels have changed")
        return BodyLoop(
            str(meta["body_id"]),
            width,
            height,
            Fraction(*meta["fps"]),
            frames,
            arrays["landmarks"],
            arrays["motion"],
            arrays["reference"],
            jumps,
            sha256,
            arrays.get("original"),
            segments,
            str(meta.get("cast", "")),
            arrays.get("framing"),
        )
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise Damaged(f"{folder.name}: {error}") from error


def write_prepared(folder: Path, prepared: Prepared) -> None:
    """What an engine made, as a folder."""
    write_folder(folder, prepared.arrays, prepared.meta)


def read_prepared(folder: Path, *, verify: bool) -> Prepared:
    """What an engine made, its arrays mapped. Raises :class:`Damaged`."""
    files, meta = read_meta(folder, verify=verify)
    return Prepared(read_arrays(folder, files), meta)
