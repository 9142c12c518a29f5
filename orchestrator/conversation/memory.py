"""What an assistant knows of a conversation: what callers said, and what they have heard of its own words."""

from __future__ import annotations

from collections import deque

from orchestrator.assistants.base import Message

MESSAGES = 200
CHARACTERS = 60_000


class Memory:
    """Bounded; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque(maxlen=MESSAGES)

    @property
    def messages(self) -> list[Message]:
        """The oldest first."""
        return list(self._messages)

    def before(self, text: str) -> list[Message]:
        """The messages before the caller said this, where that is the last one."""
        messages = self.messages
        return messages[:-1] if messages[-1:] == [Message("caller", text)] else messages

    def said(self, text: str) -> None:
        """By the caller."""
        self._add(Message("caller", text))

    def unsaid(self, text: str) -> None:
        """The caller's last words come again, as part of more."""
        if self._messages and self._messages[-1] == Message("caller", text):
            self._messages.pop()

    def heard(self, text: str) -> None:
        """By the caller, of what the assistant said; two stretches of one reply are one message."""
        if not text:
            return
        if self._messages and self._messages[-1].role == "assistant":
            text = f"{self._messages.pop().text} {text}"
        self._add(Message("assistant", text))

    def _add(self, message: Message) -> None:
        self._messages.append(message)
        while len(self._messages) > 1 and sum(len(each.text) for each in self._messages) > CHARACTERS:
            self._messages.popleft()
