"""Placement: which server a conversation goes to. Sans-IO: news and ``now`` (seconds) in, an address out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from visavis.client.model import Capacity

Failure = Literal["full", "unavailable", "stalled", "refused"]
"""``full``: no room now; ``unavailable``: gone or draining; ``stalled``: silent; ``refused``: cannot do it."""

_LEFT_ALONE_S: dict[Failure, tuple[float, float]] = {
    "full": (0.5, 2.0),
    "unavailable": (0.5, 1.0),
    "stalled": (2.0, 30.0),
    "refused": (2.0, 60.0),
}
"""How long a server is left alone after a first failure of a kind, and at most (doubling in between)."""

_ALONE_S = 1.0  # nobody else to turn to

_UNEVEN = 0.25
"""How uneven servers may be, in sessions for each speaking slot, before an avatar is copied to the idler one."""
_CROWDED = 1.0
"""The same by which a server that holds the avatar may be busier than one that would have to get it first."""


@dataclass(slots=True)
class Server:
    """What is known of one server."""

    address: str
    capacity: Capacity | None = None
    reachable: bool = False
    left_alone_until: float = 0.0
    failure: Failure | None = None
    failures: int = 0  # in a row
    streams: int = 0  # ours, open now
    opening: int = 0  # ours, under way: many may look for a server at one moment
    since_news: int = 0  # ours, opened less closed since `capacity` came
    prepared: set[str] = field(default_factory=set)

    def holds(self, avatar_id: str) -> bool:
        """The avatar is prepared there, as far as is known."""
        return avatar_id in self.prepared or bool(self.capacity and avatar_id in self.capacity.avatar_ids)

    @property
    def usable(self) -> bool:
        """It can be reached, says it is ready and does not drain."""
        c = self.capacity
        return self.reachable and (c is None or (c.ready and not c.draining))

    @property
    def has_room(self) -> bool:
        """It has a free speaking slot and room for a session."""
        c = self.capacity
        if c is None:
            return True
        room = not c.max_sessions or c.sessions + self.since_news + self.opening < c.max_sessions
        return room and (not c.speaking_slots or c.speaking_slots_free > 0)

    @property
    def slots(self) -> int:
        """Speaking slots; 1 where it does not tell."""
        return max(1, self.capacity.speaking_slots) if self.capacity else 1

    @property
    def sessions(self) -> int:
        """Conversations there, ours that it has not yet counted included."""
        c = self.capacity
        return self.opening + (self.streams if c is None else c.sessions + self.since_news)

    @property
    def crowd(self) -> float:
        """Conversations for each speaking slot."""
        return self.sessions / self.slots

    @property
    def load(self) -> tuple[float, float]:
        """Conversations and busy slots for each speaking slot."""
        c = self.capacity
        return self.crowd, 0.0 if c is None else 1 - c.speaking_slots_free / self.slots


class Placement:
    """All servers known, and the choice between them."""

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        self.servers: dict[str, Server] = {a: Server(a) for a in addresses}

    def set_addresses(self, addresses: Collection[str]) -> tuple[list[str], list[str]]:
        """The addresses there are now; returns those that are new and those that are gone."""
        new = [a for a in addresses if a not in self.servers]
        gone = [a for a in self.servers if a not in addresses]
        for a in new:
            self.servers[a] = Server(a)
        for a in gone:
            del self.servers[a]
        return new, gone

    def on_capacity(self, address: str, capacity: Capacity | None) -> None:
        """News from a server (``None``: it answers, but tells no capacity)."""
        server = self.servers.get(address)
        if server is None:
            return
        if not server.reachable and server.failure == "unavailable":
            server.left_alone_until, server.failures = 0.0, 0  # it is back
        server.reachable = True
        server.capacity = capacity
        server.since_news = 0
        if capacity is not None:
            server.prepared.clear()

    def on_lost(self, address: str) -> None:
        """The server cannot be reached any more."""
        if server := self.servers.get(address):
            server.reachable = False
            server.capacity = None
            server.prepared.clear()

    def on_failure(self, address: str, failure: Failure, now: float) -> None:
        """A conversation could not go on there: the server is left alone for a while.

        Where many conversations fail together this is one failure; where half of the servers are silent at once
        the fault is more likely here than there, and they are tried again soon.
        """
        server = self.servers.get(address)
        if server is None or (server.failure == failure and now < server.left_alone_until):
            return
        server.failures = server.failures + 1 if server.failure == failure else 1
        server.failure = failure
        first, most = _LEFT_ALONE_S[failure]
        if not any(self._open_to_us(s, now) for s in self.servers.values() if s is not server):
            most = _ALONE_S
        silent = sum(s.failure == "stalled" and now < s.left_alone_until for s in self.servers.values())
        if failure == "stalled" and 2 * (silent + 1) >= len(self.servers) > 2:
            most = _ALONE_S
        server.left_alone_until = now + min(most, first * 2 ** (server.failures - 1))

    def on_opened(self, address: str, avatar_id: str) -> None:
        """One of our conversations is open there."""
        if server := self.servers.get(address):
            server.streams += 1
            server.since_news += 1
            server.prepared.add(avatar_id)

    def on_served(self, address: str) -> None:
        """Frames come from there: whatever it did before is forgiven."""
        if server := self.servers.get(address):
            server.failures, server.failure, server.left_alone_until = 0, None, 0.0

    def on_closed(self, address: str) -> None:
        """One of our conversations there is over."""
        if server := self.servers.get(address):
            server.streams = max(0, server.streams - 1)
            server.since_news -= 1

    def on_opening(self, address: str, change: int) -> None:
        """So many more conversations are being opened there (-1: one of them is open, or will not be)."""
        if server := self.servers.get(address):
            server.opening = max(0, server.opening + change)

    def choose(self, avatar_id: str, now: float, exclude: Collection[str] = ()) -> str | None:
        """The best server for a conversation now; ``None`` where none can be used.

        Order: not left alone (a must), room, not crowded beside the idlest, avatar prepared there, fewest
        sessions, fewest busy slots.
        """
        usable = [s for a, s in self.servers.items() if a not in exclude and self._open_to_us(s, now)]
        limit = min((s.crowd for s in usable if s.has_room), default=0.0) + _CROWDED
        best = min(
            usable,
            key=lambda s: (
                not s.has_room,
                s.crowd > limit,
                not s.holds(avatar_id),
                *s.load,
                s.streams,
                s.address,
            ),
            default=None,
        )
        return best.address if best else None

    def better(self, address: str, avatar_id: str, now: float) -> str | None:
        """Where a conversation of ``address`` had better speak its next turn, so that the load is even.

        Only to a server with the avatar and room, and only where it is not the busier one afterwards.
        """
        here = self.servers.get(address)
        others = [
            s
            for s in self.servers.values()
            if s is not here and s.holds(avatar_id) and s.has_room and self._open_to_us(s, now)
        ]
        there = min(others, key=lambda s: (*s.load, s.address), default=None)
        if here is None or there is None:
            return None
        moved = (here.sessions - 1) / here.slots >= (there.sessions + 1) / there.slots
        return there.address if moved else None

    def retry_at(self, now: float) -> float | None:
        """When the first server that is left alone may be tried again."""
        times = [s.left_alone_until for s in self.servers.values() if s.usable and s.left_alone_until > now]
        return min(times, default=None)

    def holder(self, avatar_id: str, now: float, other_than: str) -> str | None:
        """A server that has the avatar prepared and can be asked for it."""
        usable = (s for s in self.servers.values() if s.address != other_than and self._open_to_us(s, now))
        return next((s.address for s in usable if s.holds(avatar_id)), None)

    def spare(self, avatar_id: str, now: float) -> tuple[str, str | None] | None:
        """Where an avatar in use should be prepared too: (server, one that holds it).

        Two servers have it, and more where those that have it are busier than one that has not.
        """
        usable = [s for s in self.servers.values() if self._open_to_us(s, now)]
        holders = [s for s in usable if s.holds(avatar_id)]
        others = [s for s in usable if not s.holds(avatar_id)]
        if not others:
            return None
        target = min(others, key=lambda s: (*s.load, s.address))
        if len(holders) >= 2 and min(s.crowd for s in holders) - target.crowd <= _UNEVEN:
            return None
        return target.address, holders[0].address if holders else None

    @staticmethod
    def _open_to_us(server: Server, now: float) -> bool:
        return server.usable and server.left_alone_until <= now
