"""H.264 in SDP: profile-level-id, packetization-mode and the picture that fits them (RFC 6184 section 8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from orchestrator.rtp.h264_levels import LEVEL_1B, LEVELS, Level
from orchestrator.sip.sdp.description import Format, small_int

DEFAULT_PROFILE_LEVEL_ID = "42000a"
_PROFILE_LEVEL_ID = re.compile(r"(?:0x)?([0-9a-f]{2})([0-9a-f]{2})?([0-9a-f]{1,2})?", re.I)


@dataclass(frozen=True, slots=True)
class H264Format:
    """One offered H.264 format; `level` is what the peer can decode, its max-fs, max-mbps and max-br counted in."""

    payload_type: int
    profile_level_id: str
    packetization_mode: int
    level: Level

    @property
    def is_baseline(self) -> bool:
        return self.profile_level_id[:2] == "42"

    def fit(self, width: int, height: int, fps: float) -> tuple[int, int, float]:
        """The largest picture of that shape the peer can decode (even sides), and the rate that goes with it."""
        w, h = width, height
        for step in range(63, 3, -1):
            if self.level.allows(w, h, min(fps, 15)):
                break
            w, h = (max(16, side * step // 64 // 2 * 2) for side in (width, height))
        blocks = ceil(w / 16) * ceil(h / 16)
        return w, h, min(fps, int(100 * self.level.max_mbps / blocks) / 100)


def read_format(offered: Format) -> H264Format | None:
    """Read one H264 payload type; None for another clock rate, and for a packetization mode that is not known here.

    What cannot be read of its parameters has their default values: mode 0 and Level 1, which any peer decodes.
    """
    parameters = offered.parameters
    profile, constraints, level = read_profile_level_id(parameters.get("profile-level-id", ""))
    mode = small_int(parameters.get("packetization-mode", "0"), 255)
    mode = 0 if mode is None else mode
    if mode > 1 or offered.clock_rate != 90_000:
        return None
    text = bytes((profile, constraints, level)).hex()
    if level == 11 and constraints & 0x10 and profile in (66, 77, 88):
        level = LEVEL_1B
    own = LEVELS.get(level) or LEVELS[max(idc for idc in LEVELS if idc <= max(level, 10) and idc != LEVEL_1B)]
    return H264Format(
        offered.payload_type,
        text,
        mode,
        Level(
            max(own.max_mbps, small_int(parameters.get("max-mbps", ""), 10**9) or 0),
            max(own.max_fs, small_int(parameters.get("max-fs", ""), 10**9) or 0),
            max(own.max_bitrate, 1000 * (small_int(parameters.get("max-br", ""), 10**6) or 0)),
        ),
    )


def read_profile_level_id(text: str) -> tuple[int, int, int]:
    """profile_idc, profile-iop and level_idc, as far as they can be read (`0x42e01f`, `4280D`), else of Level 1."""
    default = bytes.fromhex(DEFAULT_PROFILE_LEVEL_ID)
    match = _PROFILE_LEVEL_ID.match(text)
    found = match.groups() if match is not None else (None, None, None)
    profile, constraints, level = (
        own if digits is None else int(digits, 16) for digits, own in zip(found, default, strict=True)
    )
    return profile, constraints, level


def choose(offered: Sequence[Format], modes: tuple[int, ...] = (1, 0)) -> H264Format | None:
    """The format to answer with: Baseline first (any profile decodes it), then by `modes`, then offer order."""
    formats = [read_format(f) for f in offered if f.name.upper() == "H264"]
    usable = [f for f in formats if f is not None and f.packetization_mode in modes]
    return min(usable, key=lambda f: (not f.is_baseline, modes.index(f.packetization_mode)), default=None)
