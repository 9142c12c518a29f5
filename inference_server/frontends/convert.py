"""Between the contract's protobuf messages and the server's own values."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from inference_server.avatars.preparation import PrepareRequest
from inference_server.errors import invalid
from inference_server.settings import Settings
from inference_server.streams.responses import FrameReady, Response
from inference_server.streams.stream import Stream
from inference_server.uploads import Uploads
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.contract import REQUESTS, Open
from visavis.contract import protobuf_codec as codec

DEFAULT_SIZE = 512
DEFAULT_FPS = Fraction(25)
_KINDS = {"mouth": pb.FRAME_KIND_MOUTH, "body": pb.FRAME_KIND_BODY}


async def prepare_request(request: pb.PrepareAvatarRequest, client: str, uploads: Uploads) -> PrepareRequest:
    """With defaults filled in; the file goes to disk."""
    video = request.WhichOneof("source") == "video"
    try:
        fit, fps = codec.word("Fit", "fit", request.fit), codec.frame_rate(request.fps)
    except ValueError as error:
        raise invalid(f"{error}.") from None
    file = await uploads.begin()
    await uploads.append(file, request.video if video else request.image)
    return PrepareRequest(
        file,
        request.width or DEFAULT_SIZE,
        request.height or DEFAULT_SIZE,
        fps or DEFAULT_FPS,
        fit,
        dict(request.settings),
        video,
        client,
    )


def piece(request: pb.PrepareAvatarRequest, of: PrepareRequest, limits: Settings) -> bytes:
    """What goes on with a file. Raises :class:`RequestError` where it grows too large."""
    data = request.video or request.image
    of.check_size(of.file.size + len(data), limits)
    return data


def first(request: pb.ConverseRequest) -> Open:
    """The first message of a stream. Raises :class:`RequestError` where it is no Open."""
    kind = request.WhichOneof("message")
    if kind != "open":
        name = "an unknown message" if kind is None else "".join(w.title() for w in kind.split("_"))
        raise invalid(f"{name} came before Open: send Open first.")
    return open_request(request.open)


def open_request(request: pb.Open) -> Open:
    """As the core takes it."""
    try:
        return codec.decode(Open, request)
    except ValueError as error:
        raise invalid(f"Open: {error}.") from None


def apply(stream: Stream, request: pb.ConverseRequest) -> None:
    """A request after Open. Raises :class:`RequestError` where the client made a mistake."""
    name = request.WhichOneof("message")
    if name is None:
        raise invalid("A request names no message this server knows: client and server differ in version.")
    try:
        asked: Any = codec.decode(REQUESTS[name], getattr(request, name))
    except ValueError as error:
        raise invalid(f"{REQUESTS[name].__name__}: {error}.") from None
    stream.take(asked)


def response(stream: Stream, said: Response) -> pb.ConverseResponse:
    """A response as it travels."""
    if not isinstance(said, FrameReady):
        return codec.encode_response(said)
    area, pixels = stream.pictures.pixels(said)
    frame = pb.Frame(
        turn_id=said.turn_id,
        epoch=said.epoch,
        audio_sample=said.sample,
        loop_index=said.loop_index,
        kind=_KINDS[said.kind],
        last=said.last,
    )
    if area is not None and pixels is not None:
        frame.rect.CopyFrom(pb.Rect(x=area.x, y=area.y, width=area.width, height=area.height))
        frame.pixels = pixels
    return pb.ConverseResponse(frame=frame)
