"""``python -m bench.lipsync clip.mp4 [--phones f | --text "..."]``: figures, and a picture of the curves."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2

from inference_server.lipsync.measure import RANGE_MS, LipSyncReport, measure
from inference_server.lipsync.picture import draw

_NOTES = {
    "phones": "timed phones of the file given: independent truth",
    "text": "phones of the text given, aligned with the sound by PocketSphinx",
    "network": "the portrait engine's own network on the clip's sound: no independent truth of articulation",
    "energy": "level of the vowels' band: knows nothing of articulation, expect r0 about 0.2 lower",
}


def _share(value: float | None, what: str) -> str:
    return "not in this clip" if value is None else f"{value:.1%} {what}"


def text_of(report: LipSyncReport) -> str:
    """The report as lines for a person."""
    width = "not in this target" if report.width_r is None else f"{report.width_r:.3f}"
    gap = "" if report.pause_gap is None else f", mean gap {report.pause_gap:.3f} of the eye distance"
    return "\n".join(
        (
            f"target      {report.target}: {_NOTES[report.target]}",
            f"pictures    {report.pictures} at {report.fps:.2f} fps, {report.lost} without a face",
            f"r0          {report.r0:.3f}",
            f"lag         {report.lag_ms:+.0f} ms (positive: the mouth is late), searched to ±{RANGE_MS} ms",
            f"r at lag    {report.r_lag:.3f}",
            f"1.5 s off   {report.misaligned:+.3f}",
            f"width r     {width}",
            f"bilabials   {_share(report.bilabials, f'of {report.bilabial_count} closures seen')}",
            f"pauses      {_share(report.pause_open, f'of pictures open{gap}')}",
            f"gap         {report.closed_gap:.3f} closed, {report.open_gap:.3f} open (5th, 95th percentile)",
        )
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.lipsync", description="Lip-sync of a clip, measured."
    )
    parser.add_argument("clip", type=Path, help="a video file with sound")
    parser.add_argument("--audio", type=Path, help="take the sound from this file")
    parser.add_argument("--phones", type=Path, help="phone times: lines of start, end, IPA symbol; or JSON")
    parser.add_argument("--text", help="what is said (English): aligned with PocketSphinx")
    parser.add_argument("--target", choices=("network", "energy"), help="without phones or text")
    parser.add_argument(
        "--offset-ms", type=float, default=0.0, help="move the pictures later, to try the metric"
    )
    parser.add_argument("--picture", type=Path, help="where to draw the curves (default: beside the clip)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    try:
        report, lips, target, start = measure(
            args.clip,
            audio=args.audio,
            phones=args.phones,
            text=args.text,
            kind=args.target,
            offset_ms=args.offset_ms,
        )
    except (ValueError, OSError) as e:
        print(f"{args.clip} cannot be measured: {e}", file=sys.stderr)
        return 2
    picture = args.picture or args.clip.with_suffix(".lipsync.png")
    cv2.imwrite(str(picture), draw(report, lips, target, start))
    print(report.to_json() if args.json else f"{text_of(report)}\ncurves      {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
