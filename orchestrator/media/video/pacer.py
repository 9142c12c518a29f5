"""Coded pictures on their way out: in order, and at most four packets a slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from orchestrator.media.video.live import LivePicture

PACKETS_PER_SLOT = 4

SendPacket = Callable[[bytearray, bool, int], None]
"""``send(packet, marker, timestamp)``"""


def _unsent(packet: bytearray, marker: bool, timestamp: int) -> None:
    """Nothing is sent once the outbox is closed."""


def _untold(picture: LivePicture) -> None:
    """Nobody asked."""


class PacketPacer:
    """A queue of pictures; one that is still being encoded keeps those behind it waiting.

    ``sent`` is told of each live picture whose last packet has left.
    """

    def __init__(self, send: SendPacket, sent: Callable[[LivePicture], None] = _untold) -> None:
        self._send = send
        self._sent = sent
        self._pictures: deque[tuple[int, Sequence[bytearray]] | LivePicture] = deque()
        self._at = 0
        self.dropped = 0

    def use(self, send: SendPacket) -> None:
        """Send through another function from now on."""
        self._send = send

    def __len__(self) -> int:
        return len(self._pictures)

    def send(self, timestamp: int, packets: Sequence[bytearray]) -> None:
        """A coded picture: at once where it is small and nothing waits, else in turn."""
        if self._pictures or len(packets) > PACKETS_PER_SLOT:
            self._pictures.append((timestamp, packets))
            return
        last = packets[-1]
        for packet in packets:
            self._send(packet, packet is last, timestamp)

    def expect(self, picture: LivePicture) -> None:
        """A picture that is being encoded."""
        self._pictures.append(picture)

    def close(self) -> None:
        """Forget what waits, and who sends it."""
        self._pictures.clear()
        self._at = 0
        self._send, self._sent = _unsent, _untold

    @property
    def blocked(self) -> bool:
        """Nothing can be sent before an encoder is done."""
        head = self._pictures[0] if self._pictures else None
        return isinstance(head, LivePicture) and not head.done and not head.dropped

    def pump(self) -> bool:
        """Send what this slot allows; True where more can be sent in the next one."""
        room = PACKETS_PER_SLOT
        while self._pictures and room:
            head = self._pictures[0]
            packets: Sequence[bytearray]
            if isinstance(head, LivePicture):
                if head.dropped:
                    self._pictures.popleft()
                    self.dropped += 1
                    continue
                if not head.done:
                    return False
                timestamp, packets = head.timestamp, head.packets
            else:
                timestamp, packets = head
            end = min(self._at + room, len(packets))
            last = len(packets) - 1
            for index in range(self._at, end):
                self._send(packets[index], index == last, timestamp)
            room -= end - self._at
            self._at = end
            if end > last:
                self._pictures.popleft()
                self._at = 0
                if isinstance(head, LivePicture):
                    self._sent(head)
        return bool(self._pictures) and not self.blocked
