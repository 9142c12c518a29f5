"""When a peer's wish for a key frame is granted (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1)."""

from __future__ import annotations

SHORTEST_INTERVAL = 0.5
ON_ITS_WAY = 0.15
"""A request this soon after a key frame was made before that one arrived."""


class KeyframeRequests:
    """Gathers PLI, FIR and SIP INFO requests; they cause at most one key frame each ``SHORTEST_INTERVAL`` seconds.

    After a key frame that nobody asked for, such as a call's first, the next may follow as soon as ``ON_ITS_WAY``
    is over. A request that comes too early is not lost: it is due when the interval is over.
    """

    def __init__(self) -> None:
        self.count = 0
        self._wanted = False
        self._last = self._granted = float("-inf")
        self._fir: dict[int, int] = {}

    def request(self) -> None:
        """PLI, the FIR of RFC 2032, or a picture fast update in SIP INFO."""
        self.count += 1
        self._wanted = True

    def full_intra(self, sender: int, sequence: int) -> None:
        """FIR; the same sequence number again is a repetition of the same command."""
        if self._fir.get(sender) != sequence:
            self._fir = {sender: sequence}
            self.request()

    def due(self, now: float) -> bool:
        """Whether the next picture must be an IDR."""
        return self._wanted and now - self._last >= ON_ITS_WAY and now - self._granted >= SHORTEST_INTERVAL

    def sent(self, now: float) -> None:
        """An IDR goes out, whatever for."""
        if self._wanted:
            self._granted = now
        self._wanted = False
        self._last = now
