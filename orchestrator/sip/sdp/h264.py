"""H.264 in SDP: profile-level-id, packetization-mode and what a level allows (RFC 6184, H.264 table A-1)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from orchestrator.sip.sdp.description import Format, small_int

# level_idc: (macroblocks per second, macroblocks per frame, kbit/s); 9 stands for level 1b.
LEVELS = {
    10: (1_485, 99, 64), 9: (1_485, 99, 128), 11: (3_000, 396, 192), 12: (6_000, 396, 384),
    13: (11_880, 396, 768), 20: (11_880, 396, 2_000), 21: (19_800, 792, 4_000), 22: (20_250, 1_620, 4_000),
    30: (40_500, 1_620, 10_000), 31: (108_000, 3_600, 14_000), 32: (216_000, 5_120, 20_000),
    40: (245_760, 8_192, 20_000), 41: (245_760, 8_192, 50_000), 42: (522_240, 8_704, 50_000),
    50: (589_824, 22_080, 135_000), 51: (983_040, 36_864, 240_000), 52: (2_073_600, 36_864, 240_000),
}  # fmt: skip
DEFAULT_PROFILE_LEVEL_ID = "42000a"


@dataclass(frozen=True, slots=True)
class H264Format:
    """One offered H.264 format. Limits are macroblocks (16x16) a second and a frame, bits a second."""

    payload_type: int
    profile_level_id: str
    packetization_mode: int
    level_idc: int
    max_mbps: int
    max_fs: int
    max_bitrate: int
    level_asymmetry_allowed: bool = False

    @property
    def is_baseline(self) -> bool:
        return self.profile_level_id[:2] == "42"

    def allows(self, width: int, height: int, fps: float) -> bool:
        blocks = ceil(width / 16) * ceil(height / 16)
        side = sqrt(8 * self.max_fs)
        fits = blocks <= self.max_fs and ceil(width / 16) <= side and ceil(height / 16) <= side
        return fits and blocks * fps <= self.max_mbps

    def fit(self, width: int, height: int, fps: float) -> tuple[int, int, float]:
        """The largest picture of that shape the peer can decode (even sides), and the rate that goes with it."""
        w, h = width, height
        for step in range(63, 3, -1):
            if self.allows(w, h, min(fps, 15)):
                break
            w, h = (max(16, side * step // 64 // 2 * 2) for side in (width, height))
        blocks = ceil(w / 16) * ceil(h / 16)
        return w, h, min(fps, int(100 * self.max_mbps / blocks) / 100)


def level_for(width: int, height: int, fps: float, bitrate: int) -> int:
    """The lowest level_idc (1b left out) for a picture size, frame rate and bits a second."""
    blocks = ceil(width / 16) * ceil(height / 16)
    for level, (mbps, frame, kbits) in sorted(LEVELS.items()):
        if level != 9 and blocks <= frame and blocks * fps <= mbps and bitrate <= kbits * 1000:
            return level
    return 52


def read_format(offered: Format) -> H264Format | None:
    """Read one H264 payload type; None where its parameters make no sense."""
    parameters = offered.parameters
    text = parameters.get("profile-level-id", DEFAULT_PROFILE_LEVEL_ID).lower()
    try:
        profile, constraints, level = bytes.fromhex(text)
    except ValueError:
        return None
    mode = small_int(parameters.get("packetization-mode", "0"), 2)
    if mode is None or mode == 2 or offered.clock_rate != 90_000:
        return None
    if level == 11 and constraints & 0x10 and profile in (66, 77, 88):
        level = 9
    mbps, frame, kbits = LEVELS.get(level) or LEVELS[max(k for k in LEVELS if k <= max(level, 10) and k != 9)]
    return H264Format(
        offered.payload_type,
        text,
        mode,
        level,
        max(mbps, small_int(parameters.get("max-mbps", ""), 10**9) or 0),
        max(frame, small_int(parameters.get("max-fs", ""), 10**9) or 0),
        1000 * max(kbits, small_int(parameters.get("max-br", ""), 10**6) or 0),
        parameters.get("level-asymmetry-allowed") == "1",
    )


def choose(offered: list[Format], modes: tuple[int, ...] = (1, 0)) -> H264Format | None:
    """The format to answer with: Baseline first (any profile decodes it), then by `modes`, then offer order."""
    formats = [read_format(f) for f in offered if f.name.upper() == "H264"]
    usable = [f for f in formats if f is not None and f.packetization_mode in modes]
    return min(usable, key=lambda f: (not f.is_baseline, modes.index(f.packetization_mode)), default=None)
