"""One thing that happened in a call."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

EventKind = Literal[
    "ringing",
    "answered",
    "turn_started",
    "turn_finished",
    "turn_interrupted",
    "dtmf",
    "avatar",
    "ended",
    "assistant",
    "speech_started",
    "speech_stopped",
    "transcript",
    "reply",
    "latency",
    "recording_started",
    "recording_paused",
    "recording_resumed",
    "recording_stopped",
]


def _new_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class CallEvent:
    """One event of one call; ``data`` depends on the kind and is described in ``docs/api.md``.

    ``lost`` is how many events of the call were left out before this one, for the listener that gets it.
    """

    kind: EventKind
    call_id: str
    data: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)
    id: str = field(default_factory=_new_id)
    lost: int = 0

    @property
    def lasting(self) -> bool:
        """Whether it must reach the webhook: ``answered`` and ``ended``."""
        return self.kind in ("answered", "ended")

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that listeners get."""
        told = {"lost": self.lost} if self.lost else {}
        return {"event": self.kind, "call_id": self.call_id, "time": round(self.time, 3), **self.data, **told}

    def as_json(self) -> str:
        """The same as text, ASCII whatever is in it."""
        return json.dumps(self.as_dict())
