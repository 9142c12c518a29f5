"""Drawn mouths are as sharp as the body: the measure, its bounds, and both sides of a rest."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference_server.engines.base import BodyLoop, EngineError, Prepared
from inference_server.engines.musetalk import MuseTalkEngine
from inference_server.engines.musetalk.network import LipNetwork
from inference_server.engines.musetalk.sharpness import LIMIT, MOST, detail, matching_gain, sharpen
from tests.musetalk.support import body, draw, loaded, prepared, said, speech
from visavis.frames import crop_i420

pytestmark = pytest.mark.torch

Picture = NDArray[np.float32]


def skin(height: int = 160, width: int = 160, seed: int = 1) -> Picture:
    """Structure of every size, the larger the stronger, as photographs have it."""
    rng, out = np.random.default_rng(seed), np.full((height, width), 120.0, np.float32)
    for size in (2, 4, 8, 16):
        coarse = rng.normal(0, size, (height // size + 1, width // size + 1)).astype(np.float32)
        out += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return out


def softer(picture: Picture, sigma: float = 1.0) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)


def tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture))[None, None]


def gain_of(drawn: Picture, plate: Picture) -> float:
    return matching_gain([(tensor(drawn), tensor(plate), torch.ones(1, 1, *plate.shape))])


def edges(picture: NDArray[np.generic], mask: NDArray[np.bool_]) -> float:
    """Variance of the Laplacian."""
    return float(cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F)[mask].var())


def test_detail_is_what_a_flat_or_slanted_picture_has_none_of() -> None:
    slope = np.add.outer(np.arange(40, dtype=np.float32), 2 * np.arange(40, dtype=np.float32))
    inside = detail(tensor(slope))[..., 8:-8, 8:-8]
    assert inside.abs().max() < 1e-3
    assert detail(tensor(np.full((40, 40), 90, np.float32))).abs().max() == 0


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.4])
def test_what_was_lost_comes_back_and_never_more(sigma: float) -> None:
    plate, everywhere = skin(), np.ones((160, 160), bool)
    drawn = softer(plate, sigma)
    gain = gain_of(drawn, plate)
    assert 0.05 < gain <= MOST
    sharp = sharpen(tensor(drawn), torch.tensor(gain))[0, 0].numpy()
    before, after = (edges(p, everywhere) / edges(plate, everywhere) for p in (drawn, sharp))
    assert before < after <= 1.0
    assert np.abs(sharp - plate).mean() < 0.85 * np.abs(drawn - plate).mean()


def test_a_picture_as_sharp_as_the_body_is_left_alone() -> None:
    plate = skin()
    assert gain_of(plate, plate) == 0.0
    assert gain_of(plate, softer(plate)) == 0.0
    assert gain_of(np.full_like(plate, 90), plate) == 0.0


def test_noise_asks_for_no_gain() -> None:
    """Neither the camera's, which the decoder has dropped, nor the decoder's own."""
    plate, rng = skin(), np.random.default_rng(4)
    drawn = softer(plate)
    clean = gain_of(drawn, plate)
    grain = rng.normal(0, 8, plate.shape).astype(np.float32)
    assert gain_of(softer(plate, 0.01), plate + grain) < 0.1
    assert gain_of(drawn, plate + grain) < 1.15 * clean
    assert gain_of(drawn + grain, plate) < 0.3 * clean
    assert gain_of(grain + 120, plate) < 0.05


def test_no_gain_is_larger_than_the_bound_and_no_pixel_moves_further() -> None:
    plate = skin()
    assert gain_of(softer(plate, 5.0) * 0.2, plate) <= MOST
    edge = np.zeros((40, 40), np.float32)
    edge[:, 20:] = 255
    moved = sharpen(tensor(edge), torch.tensor(MOST)) - tensor(edge)
    assert moved.abs().max() == LIMIT


def one_face(width: int = 240, height: int = 200) -> BodyLoop:
    """A loop of one frame with fine structure."""
    loop = body(1, width=width, height=height, wide=52)  # a little smaller than the networks have it
    frame = loop.frames.copy()
    frame[0, :height] = np.clip(skin(height, width), 30, 220)
    return dataclasses.replace(loop, frames=frame)


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder in place of one with learnt weights: it gives back the face that was encoded last, softer."""
    seen = [torch.zeros(1, 3, 64, 64)]
    encode = LipNetwork.encode_face

    def encoded(self: LipNetwork, face: Tensor) -> Tensor:
        seen.append(face)
        return encode(self, face)

    def decoded(self: LipNetwork, latents: Tensor) -> Tensor:
        picture = ((seen[-1][0].permute(1, 2, 0) / 2 + 0.5) * 255).numpy()
        soft = torch.from_numpy(softer(picture, 0.7)).permute(2, 0, 1).round().clamp(0, 255).to(torch.uint8)
        return soft[None].expand(len(latents), -1, -1, -1)

    monkeypatch.setattr(LipNetwork, "encode_face", encoded)
    monkeypatch.setattr(LipNetwork, "decode", decoded)


def sharpness_across_rests(engine: MuseTalkEngine) -> tuple[list[float], float]:
    """Of each frame of speech, rest and speech over the body's there (1 at rest), and the avatar's gain."""
    loop = one_face()
    made = prepared(engine, loop)
    handle = engine.attach(made, loop)
    word = speech(0.4)
    track = said(engine, handle, np.concatenate([word, np.zeros(40_000, np.int16), word]))
    rect, mask = handle.rect(0), made.arrays["masks"][0] > 230
    size = rect.width * rect.height
    plain = crop_i420(loop.frame(0), loop.width, loop.height, rect)
    bare = np.frombuffer(plain, np.uint8)[:size].reshape(mask.shape)
    out = []
    for frame in range(82):
        (result,), (pixels,) = draw(engine, handle, track, [frame], [0])
        luma = np.frombuffer(pixels, np.uint8)[:size].reshape(mask.shape)
        out.append(edges(luma, mask) / edges(bare, mask) if result.kind == "mouth" else 1.0)
    return out, float(made.meta["gain"])


def test_sharpness_does_not_pump_between_rest_and_speech(lossy: None) -> None:
    plain, none = sharpness_across_rests(loaded(match_sharpness="false"))
    matched, gain = sharpness_across_rests(loaded())
    assert none == 0.0 < gain < MOST
    for ratios in (plain, matched):
        assert ratios[60] == 1.0 and ratios[5] != 1.0 != ratios[78]  # spoken, at rest, spoken
    lost, left = 1 - min(plain), 1 - min(matched)
    assert lost > 0.4
    assert 0 <= left < 0.55 * lost
    assert max(matched) == 1.0
    assert max(np.abs(np.diff(matched))) < 0.6 * max(np.abs(np.diff(plain)))


def test_weights_that_give_nothing_back_ask_for_almost_no_gain() -> None:
    """Random ones: what they draw has nothing to do with the face."""
    assert prepared(loaded(), one_face()).meta["gain"] < 0.05


def test_a_gain_out_of_range_is_a_damaged_avatar() -> None:
    engine, loop = loaded(), one_face()
    made = prepared(engine, loop)
    for gain in (-0.1, MOST + 0.1, float("nan"), "much", None):
        with pytest.raises(EngineError, match="damaged"):
            engine.attach(Prepared(made.arrays, {**made.meta, "gain": gain}), loop)
