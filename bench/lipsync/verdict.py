"""What must be true of lip-sync, and whether measured voices say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inference_server.lipsync.measure import LipSyncReport

INJECTED_MS = 80.0


@dataclass(frozen=True)
class Measured:
    """A voice at a frame rate. ``kind`` as in the corpus; ``found_ms``: the lag found with pictures 80 ms later,
    less the lag without."""

    voice: str
    kind: str
    fps: int
    report: LipSyncReport
    found_ms: float

    def line(self) -> str:
        """One line of the table under :data:`HEAD`."""
        r = self.report
        return (
            f"{self.voice:24} {self.fps:3} {r.r0:6.3f} {r.lag_ms:+7.1f} {r.r_lag:6.3f} {r.misaligned:+6.2f}"
            f" {r.width_r or 0:6.3f} {r.bilabials or 0:6.1%} {r.bilabial_count:5} {r.pause_open or 0:6.2%}"
            f" {r.pause_gap or 0:6.3f} {self.found_ms:+7.0f}"
        )


HEAD = f"{'voice':24} fps    r0   lag ms  r lag  1.5 s  width  bilab     n  pause    gap  80 ms"


@dataclass(frozen=True)
class Verdict:
    """A requirement, the voice that is decisive for it, and whether it is met."""

    text: str
    decisive: str
    met: bool

    def line(self) -> str:
        """For a person."""
        return f"{'met    ' if self.met else 'NOT MET'} {self.text}: {self.decisive}"


def _worst(
    rows: Sequence[Measured], text: str, value: Callable[[Measured], float | None], at_least: float
) -> Verdict | None:
    """The lowest value of all decides."""
    known = [(v, row) for row in rows if (v := value(row)) is not None]
    if not known:
        return None
    low, row = min(known, key=lambda pair: pair[0])
    return Verdict(text, f"{abs(low):.3g} ({row.voice}, {row.fps} fps)", low >= at_least)


def verdicts(rows: Sequence[Measured], lag_ms: float = 20.0) -> list[Verdict]:
    """Every requirement that these voices can decide."""
    synthetic = [r for r in rows if r.kind == "synthetic"]
    best = max(
        (r.voice for r in synthetic),
        key=lambda v: max(r.report.r0 for r in synthetic if r.voice == v),
        default="",
    )
    found = [
        _worst(
            [r for r in synthetic if r.voice == best],
            "r0 at least .85 on an unseen synthetic voice (the best of them)",
            lambda r: r.report.r0,
            0.85,
        ),
        _worst(
            [r for r in rows if r.kind == "recorded"],
            "r0 at least .75 on held-out real speech",
            lambda r: r.report.r0,
            0.75,
        ),
        _worst(rows, f"lag within {lag_ms:.0f} ms on every voice", lambda r: -abs(r.report.lag_ms), -lag_ms),
        _worst(rows, "width r at least .6 on every voice", lambda r: r.report.width_r, 0.6),
        _worst(rows, "90 % of bilabials closed on every voice", lambda r: r.report.bilabials, 0.9),
        _worst(rows, "under 2 % of pause frames open", lambda r: -(r.report.pause_open or 0.0), -0.02),
        _worst(rows, "1.5 s misaligned under .35", lambda r: -abs(r.report.misaligned), -0.35),
        _worst(
            rows,
            "an injected 80 ms found within 20 ms (how far off)",
            lambda r: -abs(r.found_ms - INJECTED_MS),
            -20.0,
        ),
    ]
    return [v for v in found if v is not None]
