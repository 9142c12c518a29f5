"""The engine against the plain reference: the same pixels, and not the same as soon as one thing is altered."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference_server.engines.musetalk import composite, encoder, network, prepare
from inference_server.engines.musetalk.avatar import ResidentAvatar
from inference_server.engines.musetalk.encoder import SpeechEncoder
from inference_server.engines.musetalk.network import LipNetwork
from tests.musetalk.reference import Reference, picture_under
from tests.musetalk.support import body, checkpoint, draw, loaded, prepared, said, speech
from visavis.frames import i420_planes
from visavis.rgb import to_rgb

pytestmark = pytest.mark.torch

MARGIN = "20"
FRAMES = (0, 1, 6, 10)
LOOP = (0, 2, 5, 3)  # 5 is on the way back: the picture of 3


def own_picture(loop_index: int) -> int:
    """Frames of a loop of five there and back: 0 1 2 3 4 3 2 1."""
    return loop_index if loop_index < 5 else 8 - loop_index


@pytest.fixture(scope="module")
def wanted() -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """What the reference draws: luma and chroma of every row, before rounding."""
    reference = Reference(checkpoint())
    loop = body(5, there_and_back=True)
    made = prepared(
        loaded(extra_margin=MARGIN, match_sharpness="false"), loop
    ).arrays  # boxes and masks are injected
    out = []
    with torch.inference_mode():
        for frame, index in zip(FRAMES, LOOP, strict=True):
            stored = own_picture(index)
            x1, y1, x2, y2 = box = tuple(int(v) for v in made["boxes"][stored])
            rgb = to_rgb(loop.frame(index), loop.width, loop.height)
            crop = cv2.resize(rgb[y1:y2, x1:x2], (64, 64), interpolation=cv2.INTER_LANCZOS4)
            face = reference.face(reference.latents(np.asarray(crop)), reference.tokens(speech(), frame))
            rect = tuple(int(v) for v in made["rects"][stored])
            mask = made["masks"][stored]
            out.append(picture_under(face, box, rect, mask, loop.frame(index), loop.width, loop.height))
    return out


def compare(wanted: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """Prepare, draw and compare; ``AssertionError`` where a pixel is off by more than rounding explains."""
    engine = loaded(extra_margin=MARGIN, match_sharpness="false")
    loop = body(5, there_and_back=True)
    handle = engine.attach(prepared(engine, loop), loop)
    results, drawn = draw(engine, handle, said(engine, handle, speech()), FRAMES, LOOP)
    for (luma, chroma), result, pixels in zip(wanted, results, drawn, strict=True):
        assert result.kind == "mouth"
        assert result.rect is not None
        y, u, v = i420_planes(np.frombuffer(pixels, np.uint8), result.rect.width, result.rect.height)
        assert y.shape == luma.shape
        assert np.abs(y - luma).max() <= 1.6
        assert np.abs(np.stack([u, v]) - chroma).max() <= 1.6


def test_same_pixels(wanted: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    compare(wanted)


def _depth_outside(self: SpeechEncoder, window: Tensor) -> Tensor:
    flat = window.transpose(1, 2).flatten(1, 2)
    return flat + self.encoding


def _cosine_first(tokens: int, width: int) -> Tensor:
    return torch.cat([positional(tokens, width)[:, 1:], positional(tokens, width)[:, :1]], dim=1)


def _no_positions(tokens: int, width: int) -> Tensor:
    return torch.zeros(tokens, width)


positional = encoder.positional_encoding
pictures = prepare.face_pictures
decode = LipNetwork.decode
mix = composite.blend
matrix = composite.YCBCR
hidden = SpeechEncoder.features


def _upper_half(crop: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    return pictures(crop[::-1].copy())[0].flip(2), pictures(crop)[1]


def _other_order(crop: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    return pictures(crop)[::-1]


def _blue_first(crop: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    return pictures(crop[..., ::-1])


def _decode_blue_first(self: LipNetwork, latents: Tensor) -> Tensor:
    return decode(self, latents).flip(1)


def _decode_scaled(self: LipNetwork, latents: Tensor) -> Tensor:
    return decode(self, latents * self.scaling)


def _encode_unscaled(self: LipNetwork, face: Tensor) -> Tensor:
    mode: Tensor = self.vae.encode(face).latent_dist.mode()
    return mode


def _encode_sample(self: LipNetwork, face: Tensor) -> Tensor:
    torch.manual_seed(0)
    drawn: Tensor = self.vae.encode(face).latent_dist.sample()
    return drawn * self.scaling


def _inverse_mask(drawn: Tensor, plate: Tensor, weight: Tensor) -> Tensor:
    return mix(plate, drawn, weight)


def _no_mirror(self: ResidentAvatar, loop_index: int) -> int:
    return loop_index % len(self.rects)


def _mirror_off_by_one(self: ResidentAvatar, loop_index: int) -> int:
    return loop_index if loop_index < 5 else 9 - loop_index


def _last_not_normalised(self: SpeechEncoder, mel: Tensor, *places: Tensor) -> Tensor:
    norm, self.whisper.layer_norm = self.whisper.layer_norm, torch.nn.Identity()
    try:
        return hidden(self, mel, *places)
    finally:
        self.whisper.layer_norm = norm


def _position_off_by_one(self: SpeechEncoder, mel: Tensor, *places: Tensor) -> Tensor:
    return hidden(self, mel, places[0], places[1] + 1, places[2])


def _window_off_by_one(self: SpeechEncoder, mel: Tensor, *places: Tensor) -> Tensor:
    return hidden(self, mel, *places).roll(1, dims=1)


MUTATIONS: dict[str, tuple[object, str, Callable[..., object] | object]] = {
    "token order": (SpeechEncoder, "tokens", _depth_outside),
    "positional encoding: cosine first": (encoder, "positional_encoding", _cosine_first),
    "positional encoding: none": (encoder, "positional_encoding", _no_positions),
    "window 20 ms late": (SpeechEncoder, "features", _window_off_by_one),
    "Whisper position": (SpeechEncoder, "features", _position_off_by_one),
    "last state not normalised": (SpeechEncoder, "features", _last_not_normalised),
    "mask polarity of the latent": (prepare, "face_pictures", _upper_half),
    "order of the latents": (prepare, "face_pictures", _other_order),
    "mask polarity of the blend": (composite, "blend", _inverse_mask),
    "colour order in": (prepare, "face_pictures", _blue_first),
    "colour order out": (network.LipNetwork, "decode", _decode_blue_first),
    "Cb and Cr": (composite, "YCBCR", (matrix[0], matrix[2], matrix[1])),
    "latent scale in": (network.LipNetwork, "encode_face", _encode_unscaled),
    "latent scale out": (network.LipNetwork, "decode", _decode_scaled),
    "a sample instead of the mode": (network.LipNetwork, "encode_face", _encode_sample),
    "no mirror": (ResidentAvatar, "stored", _no_mirror),
    "mirror index off by one": (ResidentAvatar, "stored", _mirror_off_by_one),
}


@pytest.mark.parametrize("altered", MUTATIONS)
def test_altering_fails(
    altered: str,
    wanted: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, name, change = MUTATIONS[altered]
    monkeypatch.setattr(place, name, change)
    with pytest.raises(AssertionError):
        compare(wanted)
