"""The files of the MuseTalk engine, in the layout of its own repository.

Sizes and SHA-256 are the public hub's at the pinned revisions. Weights without a pinned digest are taken only where
a person names theirs; a configuration, which is data, takes that of its first download (``checksums.json``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Version = Literal["v15", "v1"]
Decoder = Literal["sd-vae", "taesd"]

_MUSETALK = ("TMElyralab/MuseTalk", "2bcb936e2fddb4d86db4c62fd45b387d0c061571")
_VAE = ("stabilityai/sd-vae-ft-mse", "31f26fdeee1355a5c34592e401dd41e45d25a493")
_WHISPER = ("openai/whisper-tiny", "169d4a4341b33bc18d8881c4b69c2e104e1cc0af")
_TAESD = ("madebyollin/taesd", "614f76814bbe30edbe2e627ace1c2234c81a2c0e")
_PARSER = ("ManyOtherFunctions/face-parse-bisent", "0073b233a5a3c4b1377d4dbf49245017938a72b5")


@dataclass(frozen=True)
class ModelFile:
    """``path``: below ``musetalk_dir``. ``also``: other names under which the same weights are accepted.
    ``size`` and ``sha256``: of the pinned revision, 0 and "" where not pinned."""

    path: str
    repo: str
    revision: str
    remote: str
    size: int = 0
    sha256: str = ""
    also: tuple[str, ...] = ()

    @property
    def needs_digest(self) -> bool:
        """Whether it is taken only with a digest that is pinned here or that a person names."""
        return not self.path.endswith(".json")


def _file(path: str, source: tuple[str, str], remote: str, size: int = 0, sha256: str = "") -> ModelFile:
    also: tuple[str, ...] = ()
    if path.endswith("diffusion_pytorch_model.bin"):
        also = (path.replace(".bin", ".safetensors"),)
    elif path == "whisper/pytorch_model.bin":
        also = ("whisper/model.safetensors",)
    return ModelFile(path, source[0], source[1], remote, size, sha256, also)


_UNET_JSON = "5b6923aee04d71692e0e9846c471e0a4ea07a4f686d39545e472bd4ba17e1b47"

FILES: Mapping[str, tuple[ModelFile, ...]] = {
    "v15": (
        # The hub has the same configuration for both versions under musetalk/.
        _file("musetalkV15/musetalk.json", _MUSETALK, "musetalk/musetalk.json", 748, _UNET_JSON),
        _file(
            "musetalkV15/unet.pth",
            _MUSETALK,
            "musetalkV15/unet.pth",
            3_400_074_924,
            "7ebf6c98c181e20838e4c0054e96e944ac60d5d692cc01db42839fe11b787007",
        ),
    ),
    "v1": (
        _file("musetalk/musetalk.json", _MUSETALK, "musetalk/musetalk.json", 748, _UNET_JSON),
        _file("musetalk/pytorch_model.bin", _MUSETALK, "musetalk/pytorch_model.bin"),
    ),
    "sd-vae": (
        _file(
            "sd-vae/config.json",
            _VAE,
            "config.json",
            547,
            "92d3dfb746fca211a2c9e019e285f8597412211728dce3c5bcf4eda0f2d62e7e",
        ),
        _file(
            "sd-vae/diffusion_pytorch_model.bin",
            _VAE,
            "diffusion_pytorch_model.bin",
            334_707_217,
            "1b4889b6b1d4ce7ae320a02dedaeff1780ad77d415ea0d744b476155c6377ddc",
        ),
    ),
    "whisper": (
        _file(
            "whisper/config.json",
            _WHISPER,
            "config.json",
            1983,
            "ffdccec4f3211f4c63310f2b7098f309fe70f3952cedc5e4d11e43f5b2379b98",
        ),
        _file(
            "whisper/preprocessor_config.json",
            _WHISPER,
            "preprocessor_config.json",
            184_990,
            "9b5cd03a36fbb8a627c64d98a5b5b126ead95a77720723944487311f0110b666",
        ),
        _file(
            "whisper/pytorch_model.bin",
            _WHISPER,
            "pytorch_model.bin",
            151_095_027,
            "9607f98a2b22d9e229ae43c52ecea79dcede9e0c5cfae67e8da6eda86d8aac1d",
        ),
    ),
    "taesd": (
        _file("taesd/config.json", _TAESD, "config.json"),
        _file(
            "taesd/diffusion_pytorch_model.safetensors",
            _TAESD,
            "diffusion_pytorch_model.safetensors",
            9_793_292,
            "db169d69145ec4ff064e49d99c95fa05d3eb04ee453de35824a6d0f325513549",
        ),
    ),
    # Trained on data for non-commercial research: never required, never fetched unless asked for.
    "parser": (
        _file(
            "face-parse-bisent/79999_iter.pth",
            _PARSER,
            "79999_iter.pth",
            53_289_463,
            "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        ),
    ),
}


def required(
    version: Version = "v15", decoder: Decoder = "sd-vae", parser: bool = False
) -> Iterator[ModelFile]:
    """The files that these settings need; the VAE always (its encoder prepares avatars)."""
    yield from FILES[version]
    yield from FILES["sd-vae"]
    yield from FILES["whisper"]
    if decoder == "taesd":
        yield from FILES["taesd"]
    if parser:
        yield from FILES["parser"]
