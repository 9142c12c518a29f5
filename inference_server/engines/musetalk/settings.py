"""Settings of the MuseTalk engine, by the names that its users know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from inference_server.engines.base import EngineError
from inference_server.models.manifest import Decoder, Version

Mode = Literal["graph", "eager", "compile"]
Parsing = Literal["jaw", "raw"]
Norms = Literal["torch", "fused"]
Dtype = Literal["auto", "float16", "bfloat16", "float32"]


@dataclass(frozen=True)
class Settings:
    """``musetalk_dir``: folder of the official files. ``fps``: frame rate that the engine is planned for; any
    stream may ask for another. ``batch_size``: largest bucket. ``device``: ``auto``, ``cpu``, ``cuda`` or
    ``cuda:1``. ``bbox_shift``: pixels that the half-face line moves down (v1 only). ``extra_margin``: added
    below the chin, in pixels of a face box 256 high (v15 only). ``parsing_mode``: what the mask covers.
    ``parser``: use the face parser's weights for the mask. ``match_sharpness``: draw mouths as sharp as the
    body is. ``look_ahead_ms``: audio after a frame that it waits for, from 100; ``most_look_ahead_ms``: as much
    of it as is there already, up to this, shapes the mouth. ``avatar_mb``: device memory for resident avatars.
    ``mode``: how batches run on a GPU. ``norms``: who computes the networks' group norms, see
    :mod:`.group_norm`.
    """

    musetalk_dir: Path
    version: Version = "v15"
    fps: Fraction = Fraction(25)
    batch_size: int = 8
    device: str = "auto"
    dtype: Dtype = "auto"
    decoder: Decoder = "sd-vae"
    mode: Mode = "graph"
    norms: Norms = "torch"
    bbox_shift: int = 0
    extra_margin: int = 10
    parsing_mode: Parsing = "jaw"
    parser: bool = False
    match_sharpness: bool = True
    look_ahead_ms: int = 100
    most_look_ahead_ms: int = 400
    silence_dbfs: int = -45
    avatar_mb: int = 2048
    cache_dir: Path = Path("~/.cache/visavis/musetalk")
    threads: int = 0

    @property
    def buckets(self) -> tuple[int, ...]:
        """1, 2, 4, 8 ... up to ``batch_size``, which is always one of them."""
        sizes = [1]
        while sizes[-1] * 2 < self.batch_size:
            sizes.append(sizes[-1] * 2)
        return (*sizes, self.batch_size) if self.batch_size > 1 else (1,)

    @property
    def right(self) -> int:
        """Hops of 10 ms after a frame, beyond the least possible."""
        return (self.look_ahead_ms - 100) // 10

    @property
    def further(self) -> int:
        """Hops after those that are used where they are there."""
        return max(self.most_look_ahead_ms - self.look_ahead_ms, 0) // 10

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Settings:
        """From the server's ``name=value`` settings. Raises :class:`EngineError` naming what cannot be used."""
        hints = get_type_hints(cls)
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise EngineError(
                f"the MuseTalk engine has no setting {unknown[0]!r}; it has: {', '.join(sorted(known))}"
            )
        if not values.get("musetalk_dir"):
            raise EngineError(
                "the MuseTalk engine needs musetalk_dir, the folder of its weights: set it in the engine's "
                "settings; `visavis-models download --dir FOLDER` fills one"
            )
        made = cls(**{name: _parse(name, hints[name], text) for name, text in values.items()})
        made._check()
        return made

    def changed(self, values: Mapping[str, str]) -> Settings:
        """With some settings otherwise. Raises as :meth:`of`."""
        hints = get_type_hints(type(self))
        made = replace(self, **{name: _parse(name, hints[name], text) for name, text in values.items()})
        made._check()
        return made

    def _check(self) -> None:
        limits: dict[str, tuple[Any, int, int]] = {
            "batch_size": (self.batch_size, 1, 64),
            "fps": (self.fps, 1, 50),
            "look_ahead_ms": (self.look_ahead_ms, 100, 1000),
            "most_look_ahead_ms": (self.most_look_ahead_ms, 0, 1000),
            "bbox_shift": (self.bbox_shift, -200, 200),
            "extra_margin": (self.extra_margin, 0, 200),
            "silence_dbfs": (self.silence_dbfs, -90, -20),
            "avatar_mb": (self.avatar_mb, 1, 1 << 20),
            "threads": (self.threads, 0, 256),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise EngineError(f"MuseTalk setting {name} must be from {low} to {high}, not {value}")
        for name in ("look_ahead_ms", "most_look_ahead_ms"):
            if getattr(self, name) % 20:
                raise EngineError(f"MuseTalk setting {name} must be a multiple of 20")


def _parse(name: str, kind: Any, text: str) -> Any:
    try:
        if get_origin(kind) is Literal:
            if text not in get_args(kind):
                raise ValueError(f"one of {', '.join(get_args(kind))}")
            return text
        if kind is bool:
            if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
                raise ValueError("true or false")
            return text.lower() in ("true", "1", "yes")
        return Path(text).expanduser() if kind is Path else kind(text)
    except (ValueError, ZeroDivisionError) as error:
        raise EngineError(f"MuseTalk setting {name}={text!r} cannot be used: {error}") from None
