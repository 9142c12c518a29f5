"""What a client is told when a request cannot be served: a kind and one clear sentence, for every face."""

from __future__ import annotations

from typing import Literal

ErrorKind = Literal[
    "invalid_argument",
    "not_found",
    "resource_exhausted",
    "failed_precondition",
    "unavailable",
    "deadline_exceeded",
    "unimplemented",
    "internal",
]


class RequestError(Exception):
    """A request refused. ``sentence`` says what is wrong and what to do."""

    def __init__(self, kind: ErrorKind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence


def invalid(sentence: str) -> RequestError:
    """The client's mistake."""
    return RequestError("invalid_argument", sentence)


def unavailable(sentence: str) -> RequestError:
    """Not here, not now: another server, or later."""
    return RequestError("unavailable", sentence)
