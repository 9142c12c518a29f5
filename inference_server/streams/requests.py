"""What a client asks of an open stream, whichever way it came."""

from __future__ import annotations

from typing import Any

from inference_server.errors import invalid
from inference_server.streams.stream import Stream
from visavis.avatar.v1.contract import Anchor, Audio, EndOfTurn, Interrupt, Playhead, TurnStart


def apply(stream: Stream, request: Any) -> None:
    """A request after Open. Raises :class:`RequestError` where the client made a mistake."""
    match request:
        case Audio():
            stream.audio(request.turn_id, request.epoch, request.first_sample, request.pcm)
        case Playhead():
            stream.playhead(request.turn_id, request.epoch, request.audio_sample, request.playing)
        case TurnStart():
            stream.turn_start(request.turn_id, request.epoch, request.render_from_sample)
        case Anchor():
            stream.anchor(request.turn_id, request.epoch, request.audio_sample, request.loop_index)
        case EndOfTurn():
            stream.end_of_turn(request.turn_id, request.epoch)
        case Interrupt():
            stream.interrupt(request.epoch)
        case _:
            raise invalid("Open: this stream is open already: open another stream for another conversation.")
