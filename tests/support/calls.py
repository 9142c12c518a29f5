"""An answered call of the control process whose peer and media worker are on paper."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from orchestrator.calls.call import Call
from orchestrator.calls.events import EventBus
from orchestrator.calls.gateway import Agreement, CallEnd, Signalling, Trace
from orchestrator.calls.portraits import Portrait
from orchestrator.media.parameters import AudioParameters
from orchestrator.speech.base import PCM, VoiceByLanguage
from orchestrator.worker.messages import EndTurn, InterruptTurns, Message, StartTurn, TurnAudio, TurnReport

ENDED = CallEnd("hangup", "peer")


class Peer:
    """A call's signalling with nobody at the other end."""

    direction: Literal["in", "out"] = "in"
    caller = "sip:a@b"
    dialled = "demo"
    source = "127.0.0.1"
    account = ""
    ended: CallEnd | None = None
    trace: Trace | None = None

    def start_trace(self) -> None: ...
    def hang_up(self, reason: str) -> None: ...
    async def show(self, shown: bool) -> None: ...
    async def press(self, digits: str, milliseconds: int) -> None: ...
    async def transfer(self, to: str) -> int:
        return 200


@dataclass
class Sink:
    """What a media worker was given: of each turn the pieces at 16 kHz and at the codec's rate."""

    fed: dict[int, list[tuple[PCM, PCM]]] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    interrupted: int = 0

    def send(self, message: Message) -> None:
        match message:
            case StartTurn(_, turn_id):
                self.fed[turn_id] = []
            case TurnAudio(_, turn_id, split, sound):
                pieces = np.frombuffer(sound[:split], "<i2"), np.frombuffer(sound[split:], "<i2")
                self.fed[turn_id].append(pieces)
            case EndTurn(_, turn_id):
                self.ended.append(turn_id)
            case InterruptTurns():
                self.interrupted += 1


def answered_call(
    voices: VoiceByLanguage, bus: EventBus, peer: Signalling | None = None, sink: Sink | None = None
) -> Call:
    """Call "c1", its voice in PCMU without a way for keys."""
    portrait = Portrait("default", Path("default.png"), "image/png")
    call = Call("c1", peer or Peer(), portrait, (sink or Sink()).send, voices, bus)
    call.on_media(Agreement(AudioParameters("PCMU", 0, ("127.0.0.1", 4000)), None, Fraction(25)))
    call.on_established()
    return call


def report(
    call: Call,
    event: Literal["started", "finished", "interrupted"],
    turn_id: int,
    heard_ms: float = 0.0,
    wait_ms: float = 0.0,
    in_ms: float = 0.0,
) -> None:
    """What the media worker says of a turn."""
    call.take(TurnReport(call.call_id, event, turn_id, heard_ms, wait_ms, in_ms))
