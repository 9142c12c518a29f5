"""Weights from the official files, converted once into safetensors of the type the device computes in."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from inference_server.engines.base import ModelMissing, Progress
from inference_server.engines.musetalk.settings import Settings
from inference_server.models.check import check, find, sha256_of
from inference_server.models.manifest import FILES, ModelFile, required

FORMAT = 1
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Models:
    """UNet2DConditionModel, AutoencoderKL, AutoencoderTiny (where TAESD is the choice) and WhisperEncoder, in
    evaluation mode on the CPU. ``side``: of the face picture in pixels. ``digest``: of the files all this was
    made from."""

    unet: Any
    vae: Any
    tiny: Any | None
    whisper: Any
    side: int
    digest: str


def load_models(settings: Settings, dtype: torch.dtype, progress: Progress) -> Models:
    """Raises :class:`ModelMissing` with every file that is missing or damaged."""
    root = settings.musetalk_dir
    files = list(required(settings.version, settings.decoder, settings.parser))
    bad = [found for found in check(root, files) if found.state != "ok"]
    if bad:
        lines = "; ".join(f.line() for f in bad)
        raise ModelMissing(
            f"{len(bad)} of {len(files)} MuseTalk files cannot be used: {lines}. "
            f"`visavis-models download --dir {root}` fetches them"
        )
    loader = _Loader(root, settings.cache_dir, dtype)
    progress(0.02, "loading Whisper")
    whisper = loader.load("whisper", _whisper, encoder_weights)
    progress(0.1, "loading the VAE")
    vae = loader.load("sd-vae", AutoencoderKL.from_config, _vae_weights)
    tiny = None
    if settings.decoder == "taesd":
        tiny = loader.load("taesd", AutoencoderTiny.from_config, lambda w: w)
    progress(0.2, "loading the UNet")
    unet = loader.load(settings.version, UNet2DConditionModel.from_config, lambda w: w)
    _check_shapes(unet, vae, whisper)
    digest = hashlib.sha256("\n".join(sorted(loader.digests)).encode()).hexdigest()
    return Models(unet, vae, tiny, whisper, int(vae.config.sample_size), digest)


def read_config(root: Path, file: ModelFile) -> dict[str, Any]:
    """A JSON configuration. Raises :class:`ModelMissing`."""
    path = find(root, file) or root / file.path
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise ModelMissing(f"{path} is damaged ({error}): download it again") from None
    return config


def read_weights(path: Path) -> Weights:
    """Tensors of a ``.pth``, ``.bin`` or ``.safetensors`` file; never runs what is pickled in it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelMissing(f"{path} is damaged ({reason}): download it again") from None
    except Exception as error:  # safetensors' own error has no public base class
        raise ModelMissing(f"{path} is damaged ({type(error).__name__}): download it again") from None
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ModelMissing(f"{path} does not hold a table of weights: download it again")
    return loaded


def _is_zip(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(2) == b"PK"


class _Loader:
    """Builds a network from its configuration, filled from the cache or else from the official file."""

    def __init__(self, root: Path, cache: Path, dtype: torch.dtype) -> None:
        self._root = root
        self._cache = cache.expanduser()
        self._dtype = dtype
        self.digests: list[str] = []

    def load(
        self,
        part: str,
        build: Callable[[dict[str, Any]], Any],
        rename: Callable[[Weights], Weights],
    ) -> Any:
        config_file, *_, weight_file = FILES[part]
        config = read_config(self._root, config_file)
        source = find(self._root, weight_file) or self._root / weight_file.path
        with torch.device("meta"):
            try:
                net = build(config)
            except (TypeError, ValueError, KeyError) as error:
                raise ModelMissing(f"{self._root / config_file.path} does not fit: {error}") from None
        converted, digest = self._converted(source, net, rename)
        self.digests.append(f"{part} {digest} {json.dumps(config, sort_keys=True)}")
        net.load_state_dict(converted, strict=True, assign=True)
        return net.eval().requires_grad_(False)

    def _converted(
        self, source: Path, net: nn.Module, rename: Callable[[Weights], Weights]
    ) -> tuple[Weights, str]:
        stat = source.stat()
        key = f"{source.resolve()} {stat.st_size} {stat.st_mtime_ns} {self._dtype} {FORMAT}"
        folder = self._cache / hashlib.sha256(key.encode()).hexdigest()[:24]
        try:
            digest = json.loads((folder / "source.json").read_text())["sha256"]
            weights = load_file(folder / "weights.safetensors")
            _check_weights(source, weights, net)
            return weights, str(digest)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)  # none, or one that was cut short: made again
        weights = rename(read_weights(source))
        _check_weights(source, weights, net)
        wanted = net.state_dict()
        weights = {name: weights[name].to(self._dtype, copy=True).contiguous() for name in wanted}
        digest = sha256_of(source)
        self._keep(folder, weights, {"file": source.name, "sha256": digest})
        return weights, digest

    def _keep(self, folder: Path, weights: Mapping[str, Tensor], source: dict[str, str]) -> None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as made:
                partial = Path(made) / "new"
                partial.mkdir()
                save_file(dict(weights), partial / "weights.safetensors")
                (partial / "source.json").write_text(json.dumps(source))
                partial.replace(folder)
        except OSError:
            return  # a full or read-only disk costs time at the next start, nothing else


def _check_weights(source: Path, weights: Weights, net: nn.Module) -> None:
    wanted = net.state_dict()
    if missing := sorted(set(wanted) - set(weights)):
        raise ModelMissing(f"{source} lacks {len(missing)} tensors ({missing[0]}): download it again")
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            shapes = f"{tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            raise ModelMissing(
                f"{source}: {name} is {shapes}; weights and configuration do not belong together"
            )


def _check_shapes(unet: Any, vae: Any, whisper: Any) -> None:
    if unet.config.cross_attention_dim != whisper.config.d_model:
        raise ModelMissing("UNet and Whisper do not belong together: the audio features differ in width")
    if unet.config.in_channels != 2 * vae.config.latent_channels:
        raise ModelMissing("UNet and VAE do not belong together: the latents differ in channels")


def _whisper(config: dict[str, Any]) -> Any:
    made = WhisperConfig.from_dict(config)
    made._attn_implementation = "sdpa"
    return WhisperEncoder(made)


def encoder_weights(weights: Weights) -> Weights:
    """Of the whole model's table, under any of its prefixes, the encoder's."""
    for prefix in ("model.encoder.", "encoder.", ""):
        if f"{prefix}conv1.weight" in weights:
            return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    return weights


def _vae_weights(weights: Weights) -> Weights:
    """Attention layers were called otherwise when the official file was made."""
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    out: Weights = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if "attentions" in parts and parts[-2] in old:
            parts[-2] = old[parts[-2]]
            tensor = tensor.reshape(tensor.shape[0], -1) if tensor.ndim == 4 else tensor
        out[".".join(parts)] = tensor
    return out
