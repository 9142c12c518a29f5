"""Text of a peer's, made fit for the rest of the program."""

from __future__ import annotations

from typing import Self

from visavis.service.text import escaped

LONGEST = 256


class PeerText(str):
    r"""Text out of a message: valid UTF-8, control and reordering characters escaped, at most 256 characters.

    The one way from a message into calls, records, events and logs. Messages themselves keep the bytes that came,
    since those are echoed (RFC 3261 section 8.2.6.2). Longer text ends in an ellipsis. Making one of another one
    changes nothing.
    """

    __slots__ = ()

    def __new__(cls, text: str = "") -> Self:
        if isinstance(text, cls):
            return text
        shown = escaped(text[: LONGEST + 1])
        if len(shown) > LONGEST:
            shown = f"{shown[: LONGEST - 1]}…"
        return super().__new__(cls, shown)
