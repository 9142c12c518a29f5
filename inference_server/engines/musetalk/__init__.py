"""The MuseTalk engine: many streams on one GPU, from the official weights."""

from __future__ import annotations

from inference_server.engines.base import EngineError

try:
    import diffusers  # noqa: F401
    import safetensors  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ModuleNotFoundError as error:
    raise EngineError(
        f"the MuseTalk engine needs {error.name}: pip install -e '.[inference,musetalk]' in a checkout of Visavis"
    ) from None

from inference_server.engines.musetalk.engine import MuseTalkEngine

__all__ = ["MuseTalkEngine"]
