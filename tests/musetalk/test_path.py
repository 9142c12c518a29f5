"""A MuseTalk avatar whose body is led through a turn: its segments, and mouths that fit where the body is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.musetalk.support import checkpoint, settings
from tests.support.avatar_client import Conversation, connect
from tests.support.portraits import IRIS
from tests.support.servers import inference_server
from tests.support.vowels import vowels
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.frames import Rect, crop_i420

pytestmark = [pytest.mark.process, pytest.mark.torch, pytest.mark.slow]

SIZE = 128


async def test_the_mouth_lies_on_the_body_frames_that_the_path_leads_to() -> None:
    values = settings(cache_dir=str(checkpoint().parent / "path"))
    async with (
        inference_server(engine="musetalk", engine_settings=values, batch_ms=200, slots=1) as address,
        connect(address) as stub,
    ):
        request = pb.PrepareAvatarRequest(image=IRIS.read_bytes(), width=SIZE, height=SIZE)
        steps = [step async for step in stub.PrepareAvatar(request, timeout=240)]
        avatar: pb.Avatar = steps[-1].avatar
        body = [
            piece.pixels async for piece in stub.FetchBody(pb.FetchBodyRequest(avatar_id=avatar.avatar_id))
        ]
        talk = Conversation(stub)
        await talk.open(avatar.avatar_id, body_sha256=avatar.body_sha256, follows_path=True)
        await talk.say(vowels(5, 16_000))
        frames, finished = await talk.collect()
        await talk.call.done_writing()
    starts = {segment.start for segment in avatar.segments}
    assert {"breath", "nod", "away"} <= {segment.kind for segment in avatar.segments}
    jumps = {(getattr(jump, "from"), jump.to) for jump in avatar.jumps}
    assert {to for _, to in jumps} == starts
    led = [frame.loop_index for frame in frames]
    turns = [at for at, (a, b) in enumerate(itertools.pairwise(led), 1) if b != (a + 1) % avatar.loop_length]
    assert turns and finished.frames == len(frames) >= 125
    assert all((led[at - 1], led[at]) in jumps or led[at] == led[at - 1] in starts for at in turns)
    mouths = [(at, frame) for at, frame in enumerate(frames) if frame.kind == pb.FRAME_KIND_MOUTH]
    assert len(mouths) > 100
    for at, frame in mouths:
        place = Rect(frame.rect.x, frame.rect.y, frame.rect.width, frame.rect.height)
        drawn = np.frombuffer(frame.pixels, np.uint8)

        def kept(index: int, place: Rect = place, drawn: np.ndarray = drawn) -> float:
            """The part of the pixels that are those of a body frame: where the mask is nothing."""
            picture = np.frombuffer(body[index], np.uint8).reshape(SIZE * 3 // 2, SIZE)
            own = np.frombuffer(crop_i420(picture, SIZE, SIZE, place), np.uint8)
            return float((own == drawn).mean())

        assert kept(frame.loop_index) > 0.1
        elsewhere = (led[0] + at) % avatar.loop_length  # where a loop that is played on would be
        if at > turns[0] + 5 and body[elsewhere] != body[frame.loop_index]:
            assert kept(frame.loop_index) > kept(elsewhere)
