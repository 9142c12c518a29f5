"""A prepared avatar as media workers are told of it, in the data of a command."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from visavis.client.model import Avatar


def avatar_data(avatar: Avatar) -> dict[str, Any]:
    """What :func:`avatar_of` makes the avatar of again."""
    about = {**vars(avatar), "body_sha256": avatar.body_sha256.hex(), "fps": str(avatar.fps)}
    return {**about, "jumps": [list(jump) for jump in avatar.jumps]}


def avatar_of(told: dict[str, Any]) -> Avatar:
    """An avatar out of a command's data."""
    return Avatar(
        told["avatar_id"],
        told["body_id"],
        bytes.fromhex(told["body_sha256"]),
        told["width"],
        told["height"],
        Fraction(told["fps"]),
        told["loop_length"],
        tuple((start, target) for start, target in told["jumps"]),
    )
