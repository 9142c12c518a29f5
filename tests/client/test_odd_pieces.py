"""Speech in pieces that end in the middle of a sample, as HTTP brings it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from tests.support.fake_server import HEIGHT, WIDTH, fake_server
from visavis import GrpcAvatarProvider
from visavis.audio import WholeSamples
from visavis.client.session import SessionProtocol

SPEECH = np.random.default_rng(1).integers(-9000, 9000, 16_000).astype("<i2")


class Stage:
    """Takes what a provider feeds."""

    ahead_s = 0.0

    def __init__(self) -> None:
        self.fed: list[Any] = []

    def feed(self, pcm: Any) -> None:
        self.fed.append(pcm)

    def end(self) -> None:
        self.fed.append(None)

    def interrupt(self) -> None:
        self.fed.clear()

    @property
    def heard(self) -> Any:
        return np.concatenate([np.zeros(0, np.int16), *(pcm for pcm in self.fed if pcm is not None)])


def pieces(data: bytes, *sizes: int) -> list[bytes]:
    out, at = [], 0
    while at < len(data):
        size = sizes[len(out) % len(sizes)]
        out.append(data[at : at + size])
        at += size
    return out


@given(st.binary(max_size=200), st.lists(st.integers(0, 7), min_size=1).filter(any))
def test_the_samples_do_not_depend_on_the_pieces(data: bytes, sizes: list[int]) -> None:
    whole = WholeSamples()
    out = [whole.push(memoryview(piece)) for piece in pieces(data, *sizes)]
    assert b"".join(samples.tobytes() for samples in out) == data[: len(data) & ~1]
    whole.reset()
    assert whole.push(b"ab").tobytes() == b"ab"


@pytest.fixture
def face(tmp_path: Path) -> tuple[GrpcAvatarProvider, Stage]:
    provider, stage = GrpcAvatarProvider(["127.0.0.1:1"], cache_directory=tmp_path), Stage()
    provider._session = stage  # type: ignore[assignment]
    return provider, stage


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("sizes", [(1, 2, 3), (4095,), (641, 1)])
def test_a_provider_takes_pieces_of_any_length(
    face: tuple[GrpcAvatarProvider, Stage], rate: int, sizes: tuple[int, ...]
) -> None:
    provider, stage = face
    provider.feed_audio(SPEECH.tobytes(), rate)
    provider.end_turn()
    whole = stage.heard
    stage.fed.clear()
    for piece in pieces(SPEECH.tobytes() + b"x", *sizes):  # and half a sample at the end
        provider.feed_audio(piece, rate)
    provider.end_turn()
    assert np.array_equal(stage.heard, whole)


@pytest.mark.parametrize(
    "end", [GrpcAvatarProvider.end_turn, GrpcAvatarProvider.flush, GrpcAvatarProvider.interrupt]
)
def test_the_next_turn_begins_with_a_whole_sample(
    face: tuple[GrpcAvatarProvider, Stage], end: Callable[[GrpcAvatarProvider], object]
) -> None:
    provider, stage = face
    provider.feed_audio(SPEECH.tobytes()[:99], 16_000)
    end(provider)
    stage.fed.clear()
    provider.feed_audio(SPEECH.tobytes(), 16_000)
    assert np.array_equal(stage.heard, SPEECH)


def test_a_face_that_appears_in_the_middle_of_a_sample(face: tuple[GrpcAvatarProvider, Stage]) -> None:
    provider, stage = face
    provider._session = None
    provider.feed_audio(SPEECH.tobytes()[:99], 16_000)
    provider._session = stage  # type: ignore[assignment]
    provider.feed_audio(SPEECH.tobytes()[99:], 16_000)
    assert np.array_equal(stage.heard, SPEECH[49:])


def test_a_conversation_sends_whole_samples() -> None:
    talk = SessionProtocol(Fraction(25))
    data = SPEECH.tobytes()
    talk.start_turn(1, 0)
    for piece in pieces(data[:2001], 3, 4, 5):
        talk.push_audio(piece, 0.0)
    assert talk.turn is not None and bytes(talk.turn._pcm) == data[:2000] and talk.dropped_samples == 0
    talk.end_turn()
    talk.start_turn(2, 0)
    talk.push_audio(data, 0.0)
    assert bytes(talk.turn._pcm) == data and talk.turn.end == len(SPEECH)


@pytest.mark.usefixtures("providers_loop")
async def test_odd_pieces_over_a_server_bring_every_picture(tmp_path: Path) -> None:
    async with fake_server() as server:
        provider = GrpcAvatarProvider([server.address], fps=25, cache_directory=tmp_path, is_async=False)
        try:
            await provider.start(b"image of anna", width=WIDTH, height=HEIGHT)
            async with asyncio.timeout(15):
                while server.sessions != 1:
                    await asyncio.sleep(0.01)
            frames = []
            for piece in pieces(SPEECH.tobytes(), 3201):
                frames += await asyncio.to_thread(provider.feed_audio, piece, 16_000)
            frames += await asyncio.to_thread(provider.flush)
            assert len(frames) >= 25
        finally:
            await provider.close()
