"""How long an assistant talks with one caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConversationLimits:
    """Of one conversation; 0 is no limit. ``tokens`` are a model's, of requests and replies."""

    minutes: float = 0.0
    turns: int = 0
    tokens: int = 0

    def reached(self, seconds: float, turns: int, tokens: int) -> str:
        """The limit that is reached after so much: "minutes", "turns" or "tokens", "" for none."""
        if self.minutes and seconds >= 60 * self.minutes:
            return "minutes"
        if self.turns and turns >= self.turns:
            return "turns"
        return "tokens" if self.tokens and tokens >= self.tokens else ""
