"""A transcript as WebVTT (W3C), for players."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from orchestrator.conversation.transcript import TranscriptEntry

_SHORTEST_S = 0.5


def webvtt(entries: Sequence[TranscriptEntry], zero: float) -> str:
    """One cue an utterance, timed from ``zero`` (seconds since the epoch) on; what was over by then is left out."""
    cues = ["WEBVTT"]
    for entry in entries:
        began, ended = entry.began_at - zero, max(entry.ended_at, entry.began_at + _SHORTEST_S) - zero
        if ended <= 0:
            continue
        text = escape(" ".join(entry.text.split()), quote=False) or f"[keys: {entry.keys}]"
        cut = "" if entry.whole else " ..."
        times = f"{_time(max(0.0, began))} --> {_time(ended)}"
        cues.append(f"{entry.number}\n{times}\n<v {entry.speaker.capitalize()}>{text}{cut}")
    return "\n\n".join(cues) + "\n"


def _time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02}:{milliseconds // 60_000 % 60:02}:"
        f"{milliseconds // 1000 % 60:02}.{milliseconds % 1000:03}"
    )
