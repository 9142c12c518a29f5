"""Our MuseTalk beside the public implementation: same random weights, same audio, same face.

    python -m bench.musetalk_parity --public FOLDER [--size tiny|full] [--wav FILE]

FOLDER is a checkout of the public repository; nothing of it is part of Visavis. Its offline whole-clip way is
run with our face box, our mask and the mode of the latent distribution, and compared in BGR. Needs einops.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import types
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference_server.engines.musetalk import face, mel, random_weights
from inference_server.engines.musetalk.checkpoint import load_models
from inference_server.engines.musetalk.composite import Places, blend, resample
from inference_server.engines.musetalk.encoder import whole_clip_windows
from inference_server.engines.musetalk.network import Network
from inference_server.engines.musetalk.prepare import face_pictures
from inference_server.engines.musetalk.settings import Settings
from inference_server.engines.musetalk.speech import Plan

WIDTH, HEIGHT = 640, 480
SECONDS = 20


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


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference over the largest value."""
    return float((a - b).abs().max() / b.abs().max())


def compare(folder: Path, size: random_weights.Size, wav: Path, frames: int) -> dict[str, float]:
    """Every figure; features and latents relative, pixels in grey levels."""
    audio, vae, unet, blending = public_modules(folder)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        random_weights.write(root / "models", size, seed=7)
        settings = Settings.of({"musetalk_dir": made + "/models", "cache_dir": made + "/cache"})
        models = load_models(settings, torch.float32, lambda *_: None)
        ours = Network(models, Plan(), torch.zeros(1, 8, models.side // 8, models.side // 8))
        ours.train(False)

        public_vae = vae.VAE(str(root / "models/sd-vae"), resized_img=models.side)
        public_vae.encode_latents = lambda image: (
            public_vae.scaling_factor * public_vae.vae.encode(image).latent_dist.mode()
        )
        public_unet = unet.UNet(
            str(root / "models/musetalkV15/musetalk.json"),
            str(root / "models/musetalkV15/unet.pth"),
            device=torch.device("cpu"),
        )
        width = models.whisper.config.d_model
        public_pe = unet.PositionalEncoding(d_model=width)
        from transformers import WhisperModel

        whisper: Any = WhisperModel.from_pretrained(root / "models/whisper")
        whisper.eval()
        processor = audio.AudioProcessor(str(root / "models/whisper"))
        pcm = read_pcm(wav)[: 16_000 * SECONDS]
        cut = root / "cut.wav"
        with wave.open(str(cut), "wb") as f:
            f.setparams((1, 2, 16_000, 0, "NONE", ""))
            f.writeframes(pcm.tobytes())
        inputs, length = processor.get_audio_feature(str(cut))
        theirs = processor.get_whisper_chunk(inputs, "cpu", torch.float32, whisper, length, fps=25)
        windows = whole_clip_windows(ours.encoder, torch.from_numpy(mel.whole_clip(pcm)), len(pcm))
        out = {"mel": relative(torch.from_numpy(mel.whole_clip(pcm).T)[None], inputs[0])}
        tokens, wanted = ours.encoder.tokens(windows), public_pe(theirs)
        if tokens.shape != wanted.shape:
            raise SystemExit(f"{tuple(tokens.shape)} tokens instead of {tuple(wanted.shape)}")
        out["tokens"] = relative(tokens, wanted)

        scene, mesh = _scene()
        box = face.face_boxes(mesh[None], WIDTH, HEIGHT, settings)[0]
        square = face.crop_square(box)
        soft = face.soft_mask(face.polygon_region(mesh, square, "jaw"), box, square)
        crop = cv2.resize(
            scene[box.y1 : box.y2, box.x1 : box.x2],
            (models.side, models.side),
            interpolation=cv2.INTER_LANCZOS4,
        )
        pair = [ours.encode_face(p) for p in face_pictures(np.asarray(crop[..., ::-1], np.uint8))]
        latents = torch.cat(pair, dim=1)
        out["latents"] = relative(latents, public_vae.get_latents_for_unet(crop))

        chosen = torch.linspace(0, len(tokens) - 1, frames).long()
        many = latents.expand(frames, -1, -1, -1)
        ours_out = ours.unet_output(many, tokens[chosen])
        theirs_out = public_unet.model(many, torch.tensor([0]), encoder_hidden_states=wanted[chosen]).sample
        out["unet"] = relative(ours_out, theirs_out)
        faces = ours.decode(ours_out)
        public_faces = public_vae.decode_latents(theirs_out)
        bgr = faces.permute(0, 2, 3, 1).numpy()[..., ::-1]
        out["face levels"] = float(np.abs(bgr.astype(int) - public_faces.astype(int)).max())
        out["frame levels"] = max(
            _frame_difference(blending, scene, faces[i], public_faces[i], soft, box, square)
            for i in range(frames)
        )
        out["face spread"] = float(public_faces.astype(float).std())
        out["frame to frame"] = float(np.abs(np.diff(public_faces.astype(float), axis=0)).mean())
    return out


def _scene() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A BGR picture with an oval in it, and points on the oval."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    scene = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    mesh = np.full((468, 2), (320, 240), np.float32)
    angle = np.linspace(0, 2 * np.pi, len(face.OVAL), endpoint=False) - np.pi / 2
    mesh[list(face.OVAL)] = np.stack([320 + 93 * np.cos(angle), 240 + 121 * np.sin(angle)], 1)
    mesh[list(face.NOSE)] = (320, 246)
    mesh[5] = (320, 233)
    return scene, mesh


def _frame_difference(
    blending: Any,
    scene: NDArray[np.uint8],
    ours: torch.Tensor,
    theirs: NDArray[np.uint8],
    soft: NDArray[np.uint8],
    box: face.Box,
    square: face.Box,
) -> float:
    """Largest difference of the whole picture, ours composed in the same planes as theirs."""
    mask = face.mask_in_box(soft, box, square)
    injected = np.zeros_like(soft)
    left, top = box.x1 - square.x1, box.y1 - square.y1
    injected[top : top + box.height, left : left + box.width] = mask
    resized = cv2.resize(theirs, (box.width, box.height))
    wanted = blending.get_image_blending(scene, resized, list(box), injected, list(square))
    zero, wide, tall = (torch.tensor([v]) for v in (0, box.width, box.height))
    at = Places(zero, wide, tall, zero, zero, wide, tall, torch.tensor([1.0]))
    drawn = resample(ours[None], at, box.height, box.width)
    weight = torch.from_numpy(mask).float() / 255
    under = scene[box.y1 : box.y2, box.x1 : box.x2, ::-1].transpose(2, 0, 1).copy()
    mixed = blend(drawn, torch.from_numpy(under).float()[None], weight[None, None])
    picture = scene.copy()
    picture[box.y1 : box.y2, box.x1 : box.x2] = mixed[0].permute(1, 2, 0).numpy()[..., ::-1]
    return float(np.abs(picture.astype(int) - wanted.astype(int)).max())


def main() -> int:
    """Print the figures; fails where one is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--public", type=Path, required=True)
    parser.add_argument("--size", choices=("tiny", "full"), default="tiny")
    parser.add_argument("--wav", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=4)
    options = parser.parse_args()
    with torch.inference_mode():
        figures = compare(options.public, options.size, options.wav, options.frames)
    limits = {"mel": 1e-4, "tokens": 1e-4, "latents": 1e-4, "unet": 1e-4, "face levels": 1, "frame levels": 1}
    for name, value in figures.items():
        limit = f"(at most {limits[name]:g})" if name in limits else ""
        print(f"{name:16} {value:10.3g}  {limit}")
    return int(any(figures[name] > limit for name, limit in limits.items()))


if __name__ == "__main__":
    raise SystemExit(main())
