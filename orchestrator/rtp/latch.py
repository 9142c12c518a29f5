"""Symmetric RTP: which source address a call belongs to (RFC 4961, RFC 7362 section 4)."""

from __future__ import annotations

from orchestrator.rtp.packet import Header, sequence_delta

Address = tuple[str, int]

PROBATION = 5
SAME_SOURCE_SILENCE = 2.0
ANY_SOURCE_SILENCE = 10.0


class Latch:
    """Where media goes. Starts at the signalled address; a stray packet never moves it.

    A packet from the signalled address confirms it at once. Another source must send ``PROBATION``
    consecutive packets of one SSRC, and once a source is confirmed it must also have been silent: two
    seconds for the SSRC that was heard there (a NAT that rebinds), ten for any other.
    """

    def __init__(self, signalled: Address) -> None:
        self.signalled = signalled
        self.target = signalled
        self.confirmed = False
        self._ssrc: int | None = None
        self._heard = 0.0
        self._candidate: Address | None = None
        self._candidate_ssrc = self._candidate_sequence = self._run = 0

    def heard(self, ssrc: int, now: float) -> None:
        """A packet came from the target itself (a connected socket tells without an address)."""
        self.confirmed, self._ssrc, self._heard = True, ssrc, now

    def offer(self, source: Address, head: Header, now: float) -> bool:
        """Whether a packet from ``source`` is the call's own; may move ``target`` to it."""
        if source == self.target:
            self.heard(head.ssrc, now)
            self._run = 0
            return True
        if self.confirmed:
            silence = now - self._heard
            if silence < (SAME_SOURCE_SILENCE if head.ssrc == self._ssrc else ANY_SOURCE_SILENCE):
                return False
        same = source == self._candidate and head.ssrc == self._candidate_ssrc
        if same and sequence_delta(head.sequence, self._candidate_sequence) == 1:
            self._run += 1
        else:
            self._candidate, self._candidate_ssrc, self._run = source, head.ssrc, 1
        self._candidate_sequence = head.sequence
        if self._run < PROBATION:
            return False
        self.target, self._run = source, 0
        self.heard(head.ssrc, now)
        return True

    def silent_for(self, now: float) -> float:
        """Seconds since the confirmed source was heard; infinite before that."""
        return now - self._heard if self.confirmed else float("inf")
