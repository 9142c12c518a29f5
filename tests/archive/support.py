"""Records and lines of transcripts, as calls leave them."""

from __future__ import annotations

from typing import Literal

from orchestrator.archive.entries import RecordingPart
from orchestrator.calls.records import CallRecord
from orchestrator.conversation.transcript import TranscriptEntry


def record(call_id: str, ended_at: float = 5.0, cause: str = "bye by peer") -> CallRecord:
    return CallRecord(
        call_id, "in", "sip:a@b", "demo", "127.0.0.1", "", "default", 1.0, 2.0, ended_at, 3.0, cause,
        "peer", "", "PCMU/8000", None, False, {"audio": {"peer_lost": 1}},
        {"sip_call_id": "x@y", "sip_cause": "hangup", "sip_status": 0},
    )  # fmt: skip


def recorded(
    call_id: str, began_at: float, state: Literal["recording", "whole"], place: str = "here"
) -> RecordingPart:
    return RecordingPart(call_id, 1, began_at, 2.0, 100, 512, 512, state, place, False)


def said(number: int, text: str = "Hello.", began_at: float = 2.5) -> TranscriptEntry:
    return TranscriptEntry(number, "caller", text, began_at, began_at + 1.0)
