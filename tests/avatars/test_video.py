"""Avatars from a short video: decoding, limits, the loop, and the whole way over gRPC and HTTP."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.video import VideoClip, VideoLimits
from inference_server.avatars.video_loop import make_video_loop
from inference_server.engines.base import BodyLoop, ImageRejected
from inference_server.engines.portrait.engine import PortraitEngine
from tests.support.avatar_client import Conversation, connect, portrait, refusal
from tests.support.house import speech
from tests.support.http import client
from tests.support.portraits import IRIS
from tests.support.servers import inference_server, running_server
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client.avatar_client import AvatarClient
from visavis.client.http import HttpServerClient
from visavis.client.model import AvatarSource

FPS = Fraction(25)
SIZE = {"width": 256, "height": 256}
Picture = NDArray[np.uint8]


@functools.cache
def face() -> Picture:
    """The portrait that Visavis ships, RGB."""
    whole = load_image(IRIS.read_bytes())
    return np.asarray(cv2.resize(whole, (400, 400), interpolation=cv2.INTER_AREA), np.uint8)


def moved(index: int) -> Picture:
    """The portrait a few pixels on and turned a little."""
    turn = cv2.getRotationMatrix2D((200, 200), 0.4 * index, 1.0)
    turn[:, 2] += (1.5 * index, 0.8 * index)
    return np.asarray(cv2.warpAffine(face(), turn, (400, 400), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def mp4(pictures: Sequence[Picture], fps: float = 25) -> bytes:
    """A real MP4 file of RGB pictures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        size = (pictures[0].shape[1], pictures[0].shape[0])
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        for rgb in pictures:
            writer.write(np.ascontiguousarray(rgb[..., ::-1]))
        writer.release()
        return path.read_bytes()


@functools.cache
def speaker(count: int = 12) -> bytes:
    """The moved portrait as an MP4 file."""
    return mp4([moved(i) for i in range(count)])


def loop(frames: Any) -> BodyLoop:
    """The finished body of a clip."""
    made = list(make_video_loop(frames, body_id="v", fps=FPS, fit="crop", **SIZE))[-1]
    assert isinstance(made, BodyLoop)
    return made


def test_frames_are_chosen_by_their_time() -> None:
    grey = [np.full((96, 96, 3), 20 * i + 10, np.uint8) for i in range(10)]
    twice = VideoClip(mp4(grey, 25), Fraction(50))
    assert len(twice) == 19  # 9/25 s, both ends included
    levels = np.array([frame.mean() for frame in twice])
    assert np.abs(levels - (10 * np.arange(19) + 10)).max() <= 14  # the nearest is half a frame off at most
    half = [frame.mean() for frame in VideoClip(mp4(grey, 25), Fraction(25, 2))]
    assert np.abs(np.array(half) - (40 * np.arange(5) + 10)).max() < 8
    assert [f.mean() for f in VideoClip(mp4(grey, 25), FPS)] == [
        f.mean() for f in VideoClip(mp4(grey, 25), FPS)
    ]


@pytest.mark.parametrize(
    ("file", "limits", "sentence"),
    [
        (lambda: b"this is a letter", {}, "not a video in a known format"),
        (lambda: b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", {}, "not a video in a known format"),
        (portrait, {}, "This is a PNG picture, not a video: send it as an image"),
        (lambda: speaker()[:400], {}, "cannot be decoded"),
        (lambda: b"\0\0\0\x20ftypisom" + bytes(500), {}, "cannot be decoded"),
        (speaker, {"max_bytes": 5000}, "at most 0 are accepted"),
        (speaker, {"max_s": 0.3}, "longer than 0.3 s: cut a shorter piece"),
        (speaker, {"max_pixels": 400 * 399}, "400x400 and at most 0.2 megapixels"),
        (lambda: mp4([np.zeros((64, 200, 3), np.uint8)] * 3), {}, "shorter side needs at least 80"),
    ],
)
def test_files_that_are_refused(file: Callable[[], bytes], limits: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ImageRejected, match=sentence):
        list(VideoClip(file(), FPS, VideoLimits(**limits)))


def test_faces_that_are_refused() -> None:
    gone = np.full((400, 400, 3), 128, np.uint8)
    there = [moved(i) for i in range(6)]
    cases: list[tuple[list[Picture], str]] = [
        ([gone] * 4, "No face was found"),
        ([*there, gone, gone, gone, gone, *there], "No face was found 0.2 s into the video"),
        ([*there, *(np.roll(p, 250, axis=1) for p in there)], "jumps 0.2 s into the video"),
        (there[:1], "two frames"),
    ]
    for frames, sentence in cases:
        with pytest.raises(ImageRejected, match=sentence):
            loop(frames)
    assert len(loop([*there[:3], gone, *there[3:]])) == 12  # one lost frame is bridged


def test_a_loop_that_nobody_could_keep_is_refused() -> None:
    with pytest.raises(ImageRejected, match=r"1483 MiB and at most 768 are kept: cut it to 5\.2 s"):
        list(make_video_loop([face()] * 251, body_id="v", width=1920, height=1080, fps=FPS, fit="crop"))


def test_a_decoded_video_plays_there_and_back() -> None:
    body = loop(VideoClip(speaker(), FPS))
    assert len(body) == 22 and (body.frames[3] == body.frames[19]).all()
    shift = body.landmarks[11].mean(0) - body.landmarks[0].mean(0)
    assert shift[0] > 3 and shift[1] > 1
    second = np.abs(np.diff(body.landmarks[:12].mean(1), n=2, axis=0))
    assert second.max() < 0.01 * np.ptp(body.landmarks[0, :, 1])


def test_the_portrait_engine_refuses_a_mouth_that_moves_by_itself() -> None:
    still = loop(VideoClip(speaker(), FPS))
    steps = PortraitEngine({}).prepare(still, {})
    assert isinstance(next(steps), float)
    talking = still.landmarks.copy()
    talking[4:8, 14, 1] += 0.3 * np.linalg.norm(talking[0, 291] - talking[0, 61])
    body = BodyLoop(**{**vars(still), "landmarks": talking})
    with pytest.raises(ImageRejected, match="mouth moves in this video"):
        next(PortraitEngine({}).prepare(body, {}))


def musetalk_options() -> dict[str, Any]:
    """Of a server with the tiny MuseTalk, which needs torch."""
    from tests.musetalk.support import settings

    return {"engine_settings": settings(), "batch_ms": 500}


@pytest.mark.process
@pytest.mark.parametrize(
    "engine", [pytest.param("musetalk", marks=[pytest.mark.torch, pytest.mark.slow]), "portrait"]
)
async def test_a_video_avatar_speaks(engine: str) -> None:
    """MP4 in over gRPC; what comes back is drawn on the video's own frames."""
    options = musetalk_options() if engine == "musetalk" else {}
    async with inference_server(engine=engine, slots=1, **options) as address:
        async with connect(address) as stub:
            request = pb.PrepareAvatarRequest(video=speaker(), **SIZE)
            steps = [step async for step in stub.PrepareAvatar(request, timeout=60)]
            shares = [step.progress for step in steps]
            avatar = steps[-1].avatar
            assert shares == sorted(shares) and len(shares) > 5 and avatar.loop_length == 22
            again = [s async for s in stub.PrepareAvatar(request, timeout=60)]
            assert len(again) == 1 and again[0].avatar == avatar
            talk = Conversation(stub)
            await talk.open(avatar.avatar_id)
            await talk.say(speech(1.0))
            frames, finished = await talk.collect()
        assert finished.frames == len(frames) and sum(bool(f.pixels) for f in frames) >= 10
        assert len({f.pixels for f in frames if f.pixels}) >= 5
        async with AvatarClient(address) as server:
            source = AvatarSource(speaker(), 256, 256, video=True)
            assert (await server.prepare_source(source)).avatar_id == avatar.avatar_id


@pytest.mark.process
async def test_over_http() -> None:
    limits = {"video_bytes": 500_000, "video_s": 1}
    async with running_server(engine_settings={"body": "loop"}, **limits) as server, client(server) as http:

        async def post(content: bytes, kind: str = "video/mp4") -> dict[str, Any]:
            answer = await http.post(
                "/v1/avatars", params=SIZE, content=content, headers={"Content-Type": kind}
            )
            return dict(answer.json())

        told = await post(speaker())
        assert told["loop_length"] == 22
        form = {"video": ("clip.mp4", io.BytesIO(speaker()))}
        assert (await http.post("/v1/avatars", params=SIZE, files=form)).json() == told
        over_http = HttpServerClient(f"http://127.0.0.1:{server.http_port}")
        source = AvatarSource(speaker(), 256, 256, video=True)
        try:
            assert (await over_http.prepare_source(source)).avatar_id == told["avatar_id"]
        finally:
            await over_http.close()
        assert "larger than the 500000 bytes" in (await post(bytes(500_001)))["detail"]
        assert "video is empty" in (await post(b""))["detail"]
        assert "known format" in (await post(b"no"))["detail"]
        assert "longer than 1 s" in (await post(mp4([moved(0)] * 40)))["detail"]
        assert "is a PNG picture" in (await post(portrait()))["detail"]
        async with connect(server.address) as stub:
            code, sentence = await refusal(stub.PrepareAvatar(pb.PrepareAvatarRequest(video=bytes(600_000))))
            assert code == grpc.StatusCode.INVALID_ARGUMENT and "at most 500000 are taken" in sentence
