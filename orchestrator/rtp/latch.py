"""Symmetric RTP: which source address a stream belongs to (RFC 4961, RFC 7362 section 4)."""

from __future__ import annotations

from orchestrator.rtp.consent import Consent, Networks, SignallingPeer
from orchestrator.rtp.packet import Header, sequence_delta

Address = tuple[str, int]

PROBATION = 5
SAME_SOURCE_SILENCE = 2.0
ANY_SOURCE_SILENCE = 10.0
WINDOW = 3.0
"""Seconds after an offer or answer in which an address that it did not name may be learnt."""

_NAMED, _SIGNALLING, _NETWORK = 3, 2, 1


class Latch:
    """Where a stream goes. Starts at the signalled address; a stranger's packets never move it.

    Who may move it: the signalled host, the host that it is confirmed at, and whoever authenticates, at any time;
    the hosts of the signalling and its networks within ``WINDOW`` after :meth:`signal`, the former also as long as
    nobody has been heard. A latch with ``follows`` (the picture's) takes the host that the call's voice is
    confirmed at instead of those two.

    A packet from the target itself confirms it at once. Another source must send ``PROBATION`` consecutive packets
    of one SSRC, and once a source is confirmed it must also have been silent: two seconds for the SSRC that was
    heard there (a NAT that rebinds), ten for any other. Within the window a better claim need not wait for that:
    the signalled host's before the signalling's, that before a network's.
    """

    def __init__(
        self,
        signalled: Address,
        peer: SignallingPeer,
        consent: Consent,
        now: float,
        *,
        follows: bool = False,
    ) -> None:
        self.signalled = self.target = signalled
        self.confirmed = False
        self._consent = consent
        self._follows = follows
        self._heard_host = False
        self._claim = _NAMED
        self._ssrc: int | None = None
        self._heard = 0.0
        self._candidate: Address | None = None
        self._candidate_ssrc = self._candidate_sequence = self._run = 0
        self._peer, self._networks = peer, Networks(peer.networks)
        self._window_end = now + WINDOW
        if not follows:
            consent.voice = None

    def signal(self, peer: SignallingPeer, now: float) -> None:
        """The same address was offered or answered again, or the call was acknowledged.

        Where the signalling comes from another host than before, whoever is heard there need not wait until the
        old one is silent.
        """
        if peer.hosts[:1] != self._peer.hosts[:1] and self._claim != _NAMED:
            self.confirmed = False
        self._peer, self._networks = peer, Networks(peer.networks)
        self._window_end = now + WINDOW

    @property
    def proven(self) -> bool:
        """Whether the target is the signalling's own host, or has been heard."""
        host = self.target[0]
        return self._heard_host or host in self._peer.hosts or (self._follows and host == self._consent.voice)

    def heard(self, ssrc: int, now: float) -> None:
        """A packet came from the target itself."""
        self.confirmed = self._heard_host = True
        self._ssrc, self._heard = ssrc, now
        if not self._follows:
            self._consent.voice = self.target[0]

    def offer(self, source: Address, head: Header, now: float, *, authenticated: bool = False) -> bool:
        """Whether a packet from ``source`` is the stream's own; may move ``target`` to it."""
        if source == self.target:
            self.heard(head.ssrc, now)
            self._run = 0
            return True
        claim = self._claim_of(source[0], now, authenticated)
        if not claim:
            return False
        if source[0] == self.target[0]:
            self._heard_host = True
        if self.confirmed and not (claim > self._claim and now <= self._window_end):
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
        self.target, self._claim, self._run = source, claim, 0
        self.heard(head.ssrc, now)
        return True

    def belongs(self, host: str) -> bool:
        """Whether RTCP from there is the peer's."""
        voice = self._consent.voice if self._follows else None
        return host in (self.target[0], self.signalled[0], voice)

    def reported(self, host: str) -> None:
        """RTCP came from ``host``: the target has proved itself where it is there."""
        self._heard_host |= host == self.target[0]

    def silent_for(self, now: float) -> float:
        """Seconds since the confirmed source was heard; infinite before that."""
        return now - self._heard if self.confirmed else float("inf")

    def _claim_of(self, host: str, now: float, authenticated: bool) -> int:
        """What speaks for a source other than the target; 0: nothing."""
        if authenticated or host == self.signalled[0]:
            return _NAMED
        if self.confirmed and host == self.target[0]:
            return self._claim
        if self._follows:
            return _SIGNALLING if host == self._consent.voice else 0
        if host in self._peer.hosts and (now <= self._window_end or not self.confirmed):
            return _SIGNALLING
        if now <= self._window_end and host in self._networks:
            return _NETWORK
        return 0
