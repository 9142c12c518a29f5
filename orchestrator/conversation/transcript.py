"""What was said in a call, by whom and when: a bounded list, and a stream for whoever keeps it longer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

KEPT = 1000


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """One utterance; times are seconds since the epoch. ``text`` is what was heard of it: of ours, what the caller
    has heard before it was cut (``whole`` False). Of keys only their number is kept."""

    number: int
    speaker: Literal["caller", "assistant"]
    text: str
    began_at: float
    ended_at: float
    whole: bool = True
    keys: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


OnEntry = Callable[[str, TranscriptEntry], None]
"""Takes a call's id and an entry of its transcript, when it is final."""


class Transcript:
    """Of one call; ``on_entry`` takes each entry."""

    def __init__(self, on_entry: Callable[[TranscriptEntry], None] = lambda entry: None) -> None:
        self._on_entry = on_entry
        self._entries: deque[TranscriptEntry] = deque(maxlen=KEPT)
        self._count = 0

    @property
    def entries(self) -> list[TranscriptEntry]:
        """The last ``KEPT``, the oldest first."""
        return list(self._entries)

    def add(
        self,
        speaker: Literal["caller", "assistant"],
        text: str,
        began_at: float,
        ended_at: float,
        *,
        whole: bool = True,
        keys: int = 0,
    ) -> None:
        """Somebody has said something."""
        self._count += 1
        entry = TranscriptEntry(self._count, speaker, text, began_at, ended_at, whole, keys)
        self._entries.append(entry)
        self._on_entry(entry)
