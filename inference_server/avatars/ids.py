"""Content addresses of bodies and avatars."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fractions import Fraction

ID_LENGTH = 32
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


def body_id(digest: bytes, width: int, height: int, fps: Fraction, fit: str, loop_build: str) -> str:
    """Digest of what decides the pixels of a body loop; ``digest`` is the SHA-256 of the file."""
    head = json.dumps([width, height, fps.numerator, fps.denominator, fit, loop_build]).encode()
    return hashlib.sha256(head + b"\0" + digest).hexdigest()[:ID_LENGTH]


def avatar_id(body: str, engine: str, build: str, settings: Mapping[str, str]) -> str:
    """Digest of a body and of what decides how an engine prepares it."""
    text = json.dumps([body, engine, build, sorted(settings.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def is_id(text: str) -> bool:
    """Whether this could be a body or avatar id (and is safe in a path)."""
    return _ID.fullmatch(text) is not None
