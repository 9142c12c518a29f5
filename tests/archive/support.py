"""Records and lines of transcripts, as calls leave them."""

from __future__ import annotations

from orchestrator.calls.records import CallRecord
from orchestrator.conversation.transcript import TranscriptEntry


def record(call_id: str, ended_at: float = 5.0, cause: str = "bye by peer") -> CallRecord:
    return CallRecord(
        call_id, "in", "sip:a@b", "demo", "127.0.0.1", "", "default", 1.0, 2.0, ended_at, 3.0, cause,
        "peer", "", "PCMU/8000", None, False, {"audio": {"peer_lost": 1}},
        {"sip_call_id": "x@y", "sip_cause": "hangup", "sip_status": 0},
    )  # fmt: skip


def said(number: int, text: str = "Hello.", began_at: float = 2.5) -> TranscriptEntry:
    return TranscriptEntry(number, "caller", text, began_at, began_at + 1.0)
