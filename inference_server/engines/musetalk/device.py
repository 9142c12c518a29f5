"""Which device draws: the settings ``device`` and ``dtype`` as torch has them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from inference_server.engines.base import Device, EngineError
from visavis.service.logs import Log

CUDA_IMAGE = "VISAVIS_CUDA_IMAGE"  # set in the container image that is made for a GPU


def choose_device(name: str, environ: Mapping[str, str] = os.environ) -> torch.device:
    """The CPU, or a GPU with its index, which is this thread's current device from here on.

    ``name``: ``auto``, ``cpu``, ``cuda`` (the first GPU) or ``cuda:N``. ``auto`` is the first GPU, or with a
    warning in the log the CPU; in the image that is made for a GPU never the CPU. Raises :class:`EngineError`.
    """
    usable = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if usable else _without_gpu(environ)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise EngineError(f"MuseTalk setting device={name!r} is not auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    if not usable:
        raise EngineError(
            "MuseTalk setting device asks for a GPU and none can be used: set device=cpu or auto"
        )
    device = torch.device("cuda", device.index or 0)  # torch.cuda.set_device takes none without an index
    count = torch.cuda.device_count()
    if device.index >= count:
        raise EngineError(
            f"MuseTalk setting device={name!r}: there is no such GPU, the last of {count} is cuda:{count - 1}"
        )
    torch.cuda.set_device(device)
    return device


def all_gpus() -> list[Device]:
    """The GPUs that this process sees. A process that is to draw on one of them is shown no other, by UUID: their
    numbers change when one falls off the bus."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [
        Device(
            f"cuda:{index}",
            {"device": "cuda"},
            {"CUDA_VISIBLE_DEVICES": f"GPU-{torch.cuda.get_device_properties(index).uuid}"},
        )
        for index in range(count)
    ]


def _without_gpu(environ: Mapping[str, str]) -> str:
    if environ.get(CUDA_IMAGE):
        raise EngineError(
            "MuseTalk needs a GPU and this container sees none: give it one (docker-compose.gpu.yml; NVIDIA's "
            "driver 580 or newer and its container toolkit on the host), or set device=cpu, where one frame takes "
            "about half a minute"
        )
    Log("inference_server.musetalk").warning(
        "no_gpu",
        reason="no GPU can be used, so MuseTalk draws on the CPU, about half a minute a frame with the official "
        "weights: too slow for calls",
    )
    return "cpu"


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Of the networks; ``auto`` is half precision on a GPU."""
    if name == "auto":
        name = "float16" if device.type == "cuda" else "float32"
    return {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[name]
