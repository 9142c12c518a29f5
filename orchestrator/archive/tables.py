"""The tables of the database, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("ended_at", Double, nullable=False),
    Column("direction", String(3), nullable=False),
    Column("caller", Text, nullable=False),
    Column("dialled", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("record", Text, nullable=False),
    Index("records_by_time", "ended_at", "call_id"),
)
"""Ended calls; ``record`` is the whole of one as JSON, the others are for whoever asks in SQL. Times are seconds
since the epoch. ``refused``: there was no room for it."""

transcript_entries = Table(
    "transcript_entries",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("began_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("speaker", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("keys", Integer, nullable=False),
)
"""What was said: :class:`orchestrator.conversation.transcript.TranscriptEntry`; ``text`` as
:class:`orchestrator.archive.sealed_text.SealedTexts` stores it."""

recordings = Table(
    "recordings",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("began_at", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("place", Text, nullable=False),
    Column("encrypted", Boolean, nullable=False),
    Index("recordings_by_time", "began_at", "call_id", "number"),
)
"""Parts of recordings: :class:`orchestrator.archive.entries.RecordingPart`."""
