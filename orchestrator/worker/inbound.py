"""What a call's worker does with the caller's voice and keys: to the owner, and to the control process if asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.media.sources import Hearing
from orchestrator.worker.messages import Digit, Heard, Message

CHUNK_STEPS = 2
"""20 ms steps in one message."""


class InboundAudio:
    """Implements :class:`Hearing`. While ``congested`` the voice is left out; ``position`` shows the gap."""

    def __init__(
        self,
        call_id: str,
        owner: Callable[[], Hearing | None],
        send: Callable[[Message], None],
        congested: Callable[[], bool],
    ) -> None:
        self._call_id = call_id
        self._owner = owner
        self._send = send
        self._congested = congested
        self._chunk: list[NDArray[np.int16]] = []
        self._position = 0
        self.wanted = False
        """Whether the control process listens."""

    @property
    def listens(self) -> bool:
        owner = self._owner()
        return self.wanted or (owner is not None and owner.listens)

    def heard(self, pcm: NDArray[np.int16]) -> None:
        owner = self._owner()
        if owner is not None and owner.listens:
            owner.heard(pcm)
        if not self.wanted:
            self._chunk.clear()
            return
        self._chunk.append(pcm)
        if len(self._chunk) >= CHUNK_STEPS:
            voice = np.concatenate(self._chunk)
            self._chunk.clear()
            if not self._congested():
                self._send(Heard(self._call_id, self._position, voice.astype("<i2").tobytes()))
            self._position += len(voice)

    def digit(self, digit: str, milliseconds: int) -> None:
        self._send(Digit(self._call_id, digit, milliseconds))
        owner = self._owner()
        if owner is not None:
            owner.digit(digit, milliseconds)
