"""The public implementation's own loop on the same random weights, for ``bench.engine --public FOLDER``."""

from __future__ import annotations

import sys
import time
import types
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bench.engine.run import body_720p
from inference_server.engines.musetalk import face
from inference_server.engines.musetalk.settings import Settings
from visavis.rgb import to_rgb


@dataclass(frozen=True)
class Speed:
    """Frames a second of one batch size: UNet and decoder with what follows them, and the networks alone."""

    batch: int
    fps: float
    model_fps: float


def public_speeds(folder: Path, root: Path, device: torch.device, frames: int) -> list[Speed]:
    """Its realtime inference, half precision on a GPU, nothing saved, blending included, for batches 4 to 32
    (on the CPU of 2 only)."""
    _, vae, unet, blending = public_modules(folder)
    cuda = device.type == "cuda"
    public_vae = vae.VAE(str(root / "sd-vae"))
    public_vae._resized_img = int(public_vae.vae.config.sample_size)
    public_unet = unet.UNet(
        str(root / "musetalkV15/musetalk.json"), str(root / "musetalkV15/unet.pth"), device=device
    )
    width = int(public_unet.model.config.cross_attention_dim)
    pe = unet.PositionalEncoding(d_model=width).to(device)
    if cuda:
        pe, public_vae.vae = pe.half(), public_vae.vae.half()
        public_unet.model = public_unet.model.half()
    body = body_720p()
    picture = np.ascontiguousarray(to_rgb(body.frame(0), body.width, body.height)[..., ::-1])
    settings = Settings.of({"musetalk_dir": str(root)})
    box = face.face_boxes(body.landmarks[:1], body.width, body.height, settings)[0]
    square = face.crop_square(box)
    mask = face.soft_mask(face.polygon_region(body.landmarks[0], square, "jaw"), box, square)
    side = public_vae._resized_img // 8
    step = torch.tensor([0], device=device)
    out = []
    for batch in (4, 8, 16, 32) if cuda else (2,):
        kind = public_unet.model.dtype
        latents = torch.randn(batch, 8, side, side, device=device, dtype=kind)
        windows = torch.randn(batch, 50, width, device=device, dtype=kind)

        def model(latents: torch.Tensor = latents, windows: torch.Tensor = windows) -> np.ndarray:
            drawn = public_unet.model(latents, step, encoder_hidden_states=pe(windows)).sample
            faces: np.ndarray = public_vae.decode_latents(drawn.to(public_vae.vae.dtype))
            return faces

        def whole() -> None:
            for one in model():
                fitted = cv2.resize(one.astype(np.uint8), (box.width, box.height))
                blending.get_image_blending(picture.copy(), fitted, list(box), mask, list(square))

        with torch.inference_mode():
            speeds = []
            for run in (whole, model):
                run()
                rounds = max(frames // batch, 1)
                began = time.perf_counter()
                for _ in range(rounds):
                    run()
                speeds.append(rounds * batch / (time.perf_counter() - began))
        out.append(Speed(batch, *speeds))
    return out


def public_modules(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Its audio, VAE, UNet and blending modules; what they import but do not need here is stood in for."""
    librosa: Any = types.ModuleType("librosa")
    librosa.load = _load_wav
    transforms: Any = types.ModuleType("torchvision.transforms")
    transforms.Normalize = _Normalize
    torchvision: Any = types.ModuleType("torchvision")
    torchvision.transforms = transforms
    for name, module in (
        ("librosa", librosa),
        ("torchvision", torchvision),
        ("torchvision.transforms", transforms),
    ):
        sys.modules.setdefault(name, module)
    sys.path.insert(0, str(folder))
    from musetalk.models import unet, vae  # type: ignore[import-not-found]
    from musetalk.utils import audio_processor, blending  # type: ignore[import-not-found]

    return audio_processor, vae, unet, blending


class _Normalize:
    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (mean, std))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


def _load_wav(path: str, sr: int) -> tuple[NDArray[np.float32], int]:
    return read_pcm(Path(path)).astype(np.float32) / np.float32(32768), sr


def read_pcm(path: Path) -> NDArray[np.int16]:
    """16 kHz mono."""
    with wave.open(str(path)) as f:
        if (f.getframerate(), f.getnchannels(), f.getsampwidth()) != (16_000, 1, 2):
            raise SystemExit(f"{path} is not 16 kHz mono PCM16")
        return np.frombuffer(f.readframes(f.getnframes()), np.int16)
