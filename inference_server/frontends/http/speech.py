"""``POST /v1/avatars/{id}/speech``: a WAV file in, a talking face as MP4 out, while it is drawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

from inference_server.core import Core
from inference_server.engines.base import BodyLoop
from inference_server.errors import RequestError, invalid
from inference_server.frontends.http.problems import limited
from inference_server.frontends.http.socket import client_of
from inference_server.streams.responses import FrameReady, TurnAccepted, TurnFinished, TurnRejected
from inference_server.streams.stream import Stream
from visavis.audio import Resampler
from visavis.avatar.v1.contract import Anchor, Audio, EndOfTurn, Open, TurnStart
from visavis.frames import I420, SAMPLE_RATE, paste_i420
from visavis.service.routes import needs

_AHEAD = 8 * SAMPLE_RATE  # samples beyond what is in the file already: more than the engine is given

_WAV: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def install(app: FastAPI, core: Core) -> None:
    """The route."""

    @app.post(
        "/v1/avatars/{avatar_id}/speech",
        summary="Speech to a clip of the face that says it",
        tags=["avatars"],
        response_class=Response,
        openapi_extra=_WAV,
        responses={200: {"content": {"video/mp4": {}}, "description": "Fragmented MP4, H.264 and AAC"}},
    )
    @needs("stream")
    async def speech(avatar_id: str, request: Request) -> Response:
        """The body is a WAV file of any rate. The clip comes while it is drawn, faster than it plays where the
        engine can; it takes a speaking slot for that long.
        """
        core.check_open_to_new()
        body = (await core.avatars.get(avatar_id)).body
        most = core.settings.speech_bytes
        client = client_of(request)
        from inference_server.frontends.http import clip  # a third of a second, and few servers are asked

        async with core.uploads.whole(client, limited(request, most, "The WAV file").stream()) as data:
            sound, rate = await asyncio.to_thread(clip.read_wav, data)
        del data
        stream = await core.open(
            Open(avatar_id=avatar_id, body_sha256=body.sha256, follows_path=True), client
        )
        try:
            voice = await _begin(stream, sound, rate)
        except BaseException:
            stream.close()
            raise
        file = clip.Clip(body.width, body.height, body.fps, rate)
        return StreamingResponse(_drawn(stream, voice, body, file, sound, rate), media_type="video/mp4")


class _Voice:
    """The speech of one turn, which is said no earlier than it is needed: others' waits in the same room."""

    def __init__(self, stream: Stream, pcm: NDArray[np.int16]) -> None:
        self._stream = stream
        self._pcm = pcm
        self._most = min(SAMPLE_RATE, stream.session.parameters.audio_bytes // 2)  # of one message
        self._said = 0

    def say(self, until: int) -> None:
        """Up to this sample, 16 kHz, and the end of the turn where there is no more."""
        while self._said < min(until, len(self._pcm)):
            piece = self._pcm[self._said : self._said + self._most]
            self._stream.take(Audio(1, 0, self._said, piece.tobytes()))
            self._said += len(piece)
            if self._said == len(self._pcm):
                self._stream.take(EndOfTurn(1, 0))


async def _begin(stream: Stream, sound: NDArray[np.int16], rate: int) -> _Voice:
    """The turn, begun. Raises ``resource_exhausted`` where no slot is free, ``invalid_argument`` on a long one."""
    most_s = stream.session.parameters.turn_samples // SAMPLE_RATE
    if len(sound) > most_s * rate:
        raise invalid(f"The WAV file is longer than the {most_s} s of one turn: send it in parts.")
    stream.take(TurnStart(1, 0, 0))
    while not isinstance(said := await stream.outbox.get(), TurnAccepted):
        if isinstance(said, TurnRejected):
            raise RequestError("resource_exhausted", f"{said.reason[:1].upper()}{said.reason[1:]}.")
        if said is None:
            raise stream.error or RequestError("unavailable", "The stream has ended: try again.")
    to_face = Resampler(rate)
    pcm = np.concatenate((await asyncio.to_thread(to_face.push, sound), to_face.flush()))
    stream.take(Anchor(1, 0, 0, 0))
    voice = _Voice(stream, pcm)
    voice.say(_AHEAD)
    return voice


async def _drawn(
    stream: Stream, voice: _Voice, body: BodyLoop, file: Any, sound: NDArray[np.int16], rate: int
) -> AsyncIterator[bytes]:
    """The file, to its end; a frame that the engine could not draw is the body."""
    next_frame, per_frame = 0, rate / body.fps

    def add(said: FrameReady) -> bytes:
        nonlocal next_frame
        data = b""
        while next_frame <= said.number:
            at = [int(k * per_frame) for k in (next_frame, next_frame + 1)]
            frame = said if next_frame == said.number else None
            data += file.add(
                _picture(body, said.loop_index + next_frame - said.number, frame), sound[slice(*at)]
            )
            next_frame += 1
        return data

    try:
        while not isinstance(said := await stream.outbox.get(), TurnFinished):
            if said is None:
                raise stream.error or RequestError("unavailable", "The stream has ended: try again.")
            if isinstance(said, FrameReady):
                yield await asyncio.to_thread(add, said)
                stream.unpaced(said)
                voice.say(said.sample + _AHEAD)
        yield await asyncio.to_thread(file.end)
    finally:
        stream.close()


def _picture(body: BodyLoop, loop_index: int, frame: FrameReady | None) -> I420:
    picture = np.array(body.frame(loop_index))
    if frame is not None and frame.rect is not None and frame.pixels is not None:
        paste_i420(picture, body.width, body.height, frame.rect, frame.pixels)
    return picture
