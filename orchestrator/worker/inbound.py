"""What a call's worker does with the caller's voice and keys: to the owner, and to the control process if asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.media.sources import Hearing
from orchestrator.worker.messages import Digit, Heard, Message

CHUNK_STEPS = 1
"""20 ms steps in one message: whoever answers a caller must hear the end of what was said at once."""


class InboundAudio:
    """Implements :class:`Hearing`. While ``congested`` the voice is left out; ``position`` shows the gap."""

    def __init__(
        self,
        call_id: str,
        owner: Callable[[], Hearing | None],
        send: Callable[[Message], None],
        congested: Callable[[], bool],
        piece: Callable[[], int] = lambda: 0,
        behind: Callable[[], int] = lambda: 0,
    ) -> None:
        self._call_id = call_id
        self._owner = owner
        self._send = send
        self._congested = congested
        self._piece, self._behind = piece, behind
        self._chunk: list[NDArray[np.int16]] = []
        self._sent: list[NDArray[np.int16]] = []
        self._position = 0
        self.wanted = False
        """Whether the control process listens."""

    @property
    def listens(self) -> bool:
        owner = self._owner()
        return self.wanted or (owner is not None and owner.listens)

    def heard(self, pcm: NDArray[np.int16], sent: NDArray[np.int16], rate: int) -> None:
        owner = self._owner()
        if owner is not None and owner.listens:
            owner.heard(pcm, sent, rate)
        if not self.wanted:
            self._chunk.clear()
            self._sent.clear()
            return
        self._chunk.append(pcm)
        self._sent.append(sent)
        if len(self._chunk) >= CHUNK_STEPS:
            voice = np.concatenate(self._chunk)
            reference = np.concatenate(self._sent).astype("<i2").tobytes()
            self._chunk.clear()
            self._sent.clear()
            if not self._congested():
                payload = voice.astype("<i2").tobytes() + reference
                when = self._piece(), self._behind()
                self._send(Heard(self._call_id, self._position, payload, len(reference), rate, *when))
            self._position += len(voice)

    def digit(self, digit: str, milliseconds: int) -> None:
        self._send(Digit(self._call_id, digit, milliseconds))
        owner = self._owner()
        if owner is not None:
            owner.digit(digit, milliseconds)
