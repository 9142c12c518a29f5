"""Random weights in exactly the layout of the official ones: for tests, benches and machines without the real
files. The configuration files decide the sizes; ``full`` has the official ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import WhisperConfig, WhisperModel

Size = Literal["tiny", "full"]


def write(root: Path, size: Size = "tiny", seed: int = 0, versions: tuple[str, ...] = ("v15",)) -> None:
    """Fill ``root`` with a random checkpoint that :class:`MuseTalkEngine` loads as it loads the real one."""
    tiny = size == "tiny"
    generator = torch.Generator().manual_seed(seed)
    unet_config = _unet_config(tiny)
    unet = UNet2DConditionModel.from_config(unet_config)  # type: ignore[no-untyped-call]
    folders = {"v15": ("musetalkV15", "unet.pth"), "v1": ("musetalk", "pytorch_model.bin")}
    for version in versions:
        folder, name = folders[version]
        _json(root / folder / "musetalk.json", unet_config)
        torch.save(_randomize(unet, generator), root / folder / name)
    vae_config = _vae_config(tiny)
    _json(root / "sd-vae" / "config.json", vae_config)
    vae = AutoencoderKL.from_config(vae_config)  # type: ignore[no-untyped-call]
    torch.save(_randomize(vae, generator), root / "sd-vae" / "diffusion_pytorch_model.bin")
    taesd_config = _taesd_config(tiny)
    _json(root / "taesd" / "config.json", taesd_config)
    taesd = AutoencoderTiny.from_config(taesd_config)  # type: ignore[no-untyped-call]
    weights = {n: w.contiguous() for n, w in _randomize(taesd, generator).items()}
    save_file(weights, root / "taesd" / "diffusion_pytorch_model.safetensors")
    whisper_config = _whisper_config(tiny)
    _json(root / "whisper" / "config.json", whisper_config)
    _json(root / "whisper" / "preprocessor_config.json", _EXTRACTOR)
    whisper = WhisperModel(WhisperConfig.from_dict(whisper_config))
    torch.save(_randomize(whisper, generator), root / "whisper" / "pytorch_model.bin")


def _json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def _randomize(net: nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Every weight anew from the generator, at a scale that keeps signals alive through the depth."""
    for name, p in net.state_dict().items():
        if not p.is_floating_point():
            continue
        if p.ndim < 2:
            norm = "norm" in name and name.endswith("weight")
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1 + (1.0 if norm else 0.0))
        else:
            fan_in = p[0].numel() if "embed" not in name else p.shape[-1]
            p.copy_(torch.randn(p.shape, generator=generator) * (1.0 / fan_in) ** 0.5)
    return dict(net.state_dict())


def _unet_config(tiny: bool) -> dict[str, Any]:
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.6.0.dev0",
        "act_fn": "silu",
        "attention_head_dim": 2 if tiny else 8,
        "block_out_channels": [16, 16, 32, 32] if tiny else [320, 640, 1280, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 24 if tiny else 384,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 8,
        "layers_per_block": 1 if tiny else 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 4 if tiny else 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }


def _vae_config(tiny: bool) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.4.2",
        "act_fn": "silu",
        "block_out_channels": [8, 8, 16, 16] if tiny else [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 1 if tiny else 2,
        "norm_num_groups": 4 if tiny else 32,
        "out_channels": 3,
        "sample_size": 64 if tiny else 256,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }


def _taesd_config(tiny: bool) -> dict[str, Any]:
    width = 8 if tiny else 64
    return {
        "_class_name": "AutoencoderTiny",
        "_diffusers_version": "0.20.0.dev0",
        "act_fn": "relu",
        "decoder_block_out_channels": [width] * 4,
        "encoder_block_out_channels": [width] * 4,
        "force_upcast": False,
        "in_channels": 3,
        "latent_channels": 4,
        "latent_magnitude": 3,
        "latent_shift": 0.5,
        "num_decoder_blocks": [1, 1, 1, 1] if tiny else [3, 3, 3, 1],
        "num_encoder_blocks": [1, 1, 1, 1] if tiny else [1, 3, 3, 3],
        "out_channels": 3,
        "scaling_factor": 1.0,
        "upsampling_scaling_factor": 2,
    }


def _whisper_config(tiny: bool) -> dict[str, Any]:
    width = 24 if tiny else 384
    return {
        "model_type": "whisper",
        "activation_function": "gelu",
        "d_model": width,
        "decoder_attention_heads": 2 if tiny else 6,
        "decoder_ffn_dim": 4 * width,
        "decoder_layers": 1 if tiny else 4,
        "encoder_attention_heads": 2 if tiny else 6,
        "encoder_ffn_dim": 4 * width,
        "encoder_layers": 4,
        "max_source_positions": 1500,
        "max_target_positions": 16 if tiny else 448,
        "num_mel_bins": 80,
        "pad_token_id": 0 if tiny else 50257,
        "bos_token_id": 0 if tiny else 50257,
        "eos_token_id": 0 if tiny else 50257,
        "decoder_start_token_id": 0 if tiny else 50258,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        "vocab_size": 32 if tiny else 51865,
    }


_EXTRACTOR: dict[str, Any] = {
    "chunk_length": 30,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 80,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "WhisperProcessor",
    "return_attention_mask": False,
    "sampling_rate": 16000,
}
