"""What a conversation says and hears. Samples count 16 kHz mono audio from the start of a turn."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.avatar.v1.contract import Anchor as Anchor
from visavis.avatar.v1.contract import Audio as Audio
from visavis.avatar.v1.contract import EndOfTurn as EndOfTurn
from visavis.avatar.v1.contract import GoAway as GoAway
from visavis.avatar.v1.contract import Interrupt as Interrupt
from visavis.avatar.v1.contract import Interrupted as Interrupted
from visavis.avatar.v1.contract import Open as Open
from visavis.avatar.v1.contract import Opened as Opened
from visavis.avatar.v1.contract import Playhead as Playhead
from visavis.avatar.v1.contract import Stats as Stats
from visavis.avatar.v1.contract import TurnAccepted as TurnAccepted
from visavis.avatar.v1.contract import TurnFinished as TurnFinished
from visavis.avatar.v1.contract import TurnRejected as TurnRejected
from visavis.avatar.v1.contract import TurnStart as TurnStart
from visavis.client.model import Avatar
from visavis.frames import Frame

Request = TurnStart | Audio | EndOfTurn | Anchor | Playhead | Interrupt

ServerMessage = Frame | TurnAccepted | TurnRejected | TurnFinished | Interrupted | GoAway | Stats


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream has a server. ``resumed`` is the turn that goes on there, in mid-sentence."""

    address: str
    opened: Opened
    resumed: int | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream has lost its server, or never had one, and looks for another."""

    address: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class AvatarReplaced:
    """The servers that there are make another body of the portrait, as another version does: ``avatar``, with which
    a stream had better be opened. In this one frames are whole pictures of that body from here on; where its size,
    rate or loop are others too, lips are away until another server can be used."""

    avatar: Avatar


Event = ServerMessage | Connected | Disconnected | AvatarReplaced
