"""MuseTalk written down a second time, plainly, from its description and the layers' definitions: one frame at a
time, with loops, straight from the official files. What the engine draws is compared with this."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float64]


def log_mel(pcm: NDArray[np.int16], hops: int) -> Floats:
    """``(hops, 80)`` with one maximum (at least -1), each hop from its own 400 samples."""
    x = np.concatenate((pcm / 32768.0, np.zeros(400 + hops * 160)))
    x = np.concatenate((x[200:0:-1], x))
    edges = _mel_edges()
    out, top = np.zeros((hops, 80)), -1.0
    for h in range(hops):
        window = x[160 * h : 160 * h + 400] * [
            0.5 * (1 - math.cos(2 * math.pi * n / 400)) for n in range(400)
        ]
        power = np.abs(np.fft.fft(window)[:201]) ** 2
        for band in range(80):
            low, middle, high = edges[band : band + 3]
            total = 0.0
            for k in range(201):
                f = k * 40.0
                triangle = min((f - low) / (middle - low), (high - f) / (high - middle))
                total += max(triangle, 0.0) * 2 / (high - low) * power[k]
            out[h, band] = math.log10(max(total, 1e-10))
        top = max(top, out[h].max())
    return (np.maximum(out, top - 8) + 4) / 4


def _mel_edges() -> list[float]:
    """82 frequencies equally spaced on Slaney's scale: linear to 1 kHz, then logarithmic."""

    def hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * math.log(8) / math.log(6.4)
    return [hz(top * i / 81) for i in range(82)]


class Reference:
    """The networks of a checkpoint folder in float32."""

    def __init__(self, root: Path) -> None:
        def config(name: str) -> dict[str, object]:
            return dict(json.loads((root / name).read_text()))

        def weights(name: str) -> dict[str, Tensor]:
            return dict(torch.load(root / name, weights_only=True))

        self.unet = UNet2DConditionModel(**_own(config("musetalkV15/musetalk.json"))).eval()
        self.unet.load_state_dict(weights("musetalkV15/unet.pth"))
        self.vae = AutoencoderKL(**_own(config("sd-vae/config.json"))).eval()
        self.vae.load_state_dict(weights("sd-vae/diffusion_pytorch_model.bin"))
        self.whisper = weights("whisper/pytorch_model.bin")
        self.heads = int(str(config("whisper/config.json")["encoder_attention_heads"]))

    def hidden_states(self, mel: Floats, position: int) -> list[Tensor]:
        """Five ``(n, width)``: after the convolutions, after layers 1 to 3, and the last one normalised."""
        w = self.whisper
        x = torch.from_numpy(mel.T.copy()).float()[None]
        x = F.gelu(F.conv1d(x, w["encoder.conv1.weight"], w["encoder.conv1.bias"], padding=1))
        x = F.gelu(F.conv1d(x, w["encoder.conv2.weight"], w["encoder.conv2.bias"], stride=2, padding=1))[0].T
        x = x + w["encoder.embed_positions.weight"][position : position + len(x)]
        states = [x]
        for n in range(4):
            x = self._layer(f"encoder.layers.{n}.", x)
            states.append(x)
        states[4] = F.layer_norm(x, x.shape[1:], w["encoder.layer_norm.weight"], w["encoder.layer_norm.bias"])
        return states

    def _layer(self, name: str, x: Tensor) -> Tensor:
        w = self.whisper

        def linear(part: str, y: Tensor) -> Tensor:
            return y @ w[f"{name}{part}.weight"].T + w.get(f"{name}{part}.bias", torch.zeros(()))

        def norm(part: str, y: Tensor) -> Tensor:
            return F.layer_norm(y, y.shape[1:], w[f"{name}{part}.weight"], w[f"{name}{part}.bias"])

        y = norm("self_attn_layer_norm", x)
        q, k, v = (linear(f"self_attn.{p}_proj", y) for p in "qkv")
        parts = []
        wide = x.shape[1] // self.heads
        for h in range(self.heads):
            cut = slice(h * wide, (h + 1) * wide)
            parts.append(torch.softmax(q[:, cut] @ k[:, cut].T / math.sqrt(wide), dim=1) @ v[:, cut])
        x = x + linear("self_attn.out_proj", torch.cat(parts, dim=1))
        y = norm("final_layer_norm", x)
        return x + linear("fc2", F.gelu(linear("fc1", y)))

    def tokens(self, pcm: NDArray[np.int16], frame: int) -> Tensor:
        """``(50, width)`` of a frame in the first 5 s, with 400 ms of audio after it and then 60 ms of silence."""
        mel = log_mel(pcm[: 160 * (4 * frame + 44)], 4 * frame + 50)
        states = self.hidden_states(mel, 0)
        total = len(pcm) // 320
        wide = states[0].shape[1]
        rows = []
        for time in range(2 * frame - 4, 2 * frame + 6):
            for depth in range(5):
                row = states[depth][time] if 0 <= time < total else torch.zeros(wide)
                n = len(rows)
                place = [
                    (math.sin if c % 2 == 0 else math.cos)(n / 10_000 ** ((c - c % 2) / wide))
                    for c in range(wide)
                ]
                rows.append(row + torch.tensor(place))
        return torch.stack(rows)

    def latents(self, crop: NDArray[np.uint8]) -> Tensor:
        """``(1, 8, ...)`` of ``(s, s, 3)`` RGB: the face with its lower half black, then the whole face."""
        both = []
        for hide in (True, False):
            picture = crop.astype(np.float32) / 127.5 - 1
            if hide:
                picture[crop.shape[0] // 2 :] = -1
            x = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]
            mean = self.vae.quant_conv(self.vae.encoder(x))[:, :4]
            both.append(mean * 0.18215)
        return torch.cat(both, dim=1)

    def face(self, latents: Tensor, tokens: Tensor) -> NDArray[np.uint8]:
        """``(s, s, 3)`` RGB."""
        drawn = self.unet(latents, 0, encoder_hidden_states=tokens[None].float()).sample
        x = self.vae.decoder(self.vae.post_quant_conv(drawn / 0.18215))[0].numpy()
        return np.round(np.clip((x.transpose(1, 2, 0) + 1) / 2, 0, 1) * 255).astype(np.uint8)


def _own(config: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in config.items() if not k.startswith("_")}


def picture_under(
    face: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    rect: tuple[int, int, int, int],
    mask: NDArray[np.uint8],
    body: NDArray[np.uint8],
    width: int,
    height: int,
) -> tuple[Floats, Floats]:
    """Luma ``(h, w)`` and both chroma ``(2, h / 2, w / 2)`` of the rectangle, as they should be, not rounded."""
    x0, y0, w, h = rect
    resized = cv2.resize(face, (box[2] - box[0], box[3] - box[1])).astype(float)
    rgb = np.zeros((h, w, 3))
    alpha = mask / 255.0
    for y in range(h):
        for x in range(w):
            fy = min(max(y0 + y - box[1], 0), len(resized) - 1)
            fx = min(max(x0 + x - box[0], 0), len(resized[0]) - 1)
            rgb[y, x] = resized[fy, fx]
    r, g, b = rgb[..., 0] / 255, rgb[..., 1] / 255, rgb[..., 2] / 255
    luma = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    cb = 128 - 37.797 * r - 74.203 * g + 112 * b
    cr = 128 + 112 * r - 93.786 * g - 18.214 * b
    planes = body.reshape(-1)
    plate_y = planes[: width * height].reshape(height, width)[y0 : y0 + h, x0 : x0 + w]
    halves = planes[width * height :].reshape(2, height // 2, width // 2)
    plate_c = halves[:, y0 // 2 : (y0 + h) // 2, x0 // 2 : (x0 + w) // 2]
    soft = _left_sited(alpha)
    chroma = np.stack([_left_sited(cb), _left_sited(cr)])
    return alpha * luma + (1 - alpha) * plate_y, soft * chroma + (1 - soft) * plate_c


def _left_sited(plane: Floats) -> Floats:
    """4:2:0 samples at even columns, between two lines."""
    h, w = plane.shape
    out = np.zeros((h // 2, w // 2))
    for y in range(h // 2):
        for x in range(w // 2):
            for line in (2 * y, 2 * y + 1):
                left, right = plane[line, max(2 * x - 1, 0)], plane[line, min(2 * x + 1, w - 1)]
                out[y, x] += (left + 2 * plane[line, 2 * x] + right) / 8
    return out
