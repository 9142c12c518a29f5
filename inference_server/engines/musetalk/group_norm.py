"""Group normalisation of channels-last pictures: torch's own on a CPU, two Triton kernels on a GPU.

torch's CUDA kernel computes in NCHW (``aten/src/ATen/native/cuda/group_norm_kernel.cu``), so it copies a
channels-last picture there and back around every norm. These read it where it lies, add the bias that the
convolution before left out and apply the SiLU after it, in one pass for the sums and one for the picture.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 4096  # values a program holds at once
MOST_CHUNKS = 128  # into which a picture's pixels are divided


def group_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool, before: Tensor | None = None
) -> Tensor:
    """As ``F.group_norm`` of ``x + before``, then SiLU where ``silu``; same dtype and layout as ``x``.

    ``x``: ``(n, c, ...)``. ``weight``, ``bias``, ``before``: ``(c,)``. Sums are float32.
    """
    flat = x.flatten(2).transpose(1, 2)  # (n, pixels, c)
    if fused(x.device) and flat.is_contiguous() and not torch.compiler.is_compiling():
        out = torch.empty_like(x)
        _launch(flat, out.flatten(2).transpose(1, 2), groups, weight, bias, eps, silu, before)
        return out
    if before is not None:
        x = x + before.view(1, -1, *[1] * (x.ndim - 2))
    x = F.group_norm(x, groups, weight, bias, eps)
    return F.silu(x) if silu else x


def add(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """``x + y + bias``, the sum of a block's two ways. ``x``, ``y``: ``(n, c, h, w)``; ``bias``: ``(c,)``."""
    same = x.is_contiguous(memory_format=torch.channels_last) and x.stride() == y.stride()
    if fused(x.device) and same and not torch.compiler.is_compiling():
        out = torch.empty_like(x)
        grid = (-(-x.numel() // TILE),)
        _kernels().add_with_bias[grid](x, y, bias, out, x.numel(), x.shape[1], TILE)
        return out
    return x + y + bias[:, None, None]


@functools.cache
def fused(device: torch.device) -> bool:
    """Whether the kernels run on this device: a GPU whose driver, and a compiler for the launchers, are there."""
    if device.type != "cuda":
        return False
    try:
        x = torch.zeros(1, 64, 2, 2, device=device).to(memory_format=torch.channels_last)
        flat, one = x.flatten(2).transpose(1, 2), torch.ones(64, device=device)
        _launch(flat, torch.empty_like(flat), 32, one, one, 1e-5, True, None)
    except (
        Exception
    ):  # a compiler, its headers or a place for what it makes is missing: torch's own kernels do
        return False
    return True


def _launch(
    x: Tensor,
    out: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    silu: bool,
    before: Tensor | None,
) -> None:
    """``x``, ``out``: ``(n, pixels, c)``, contiguous."""
    n, pixels, channels = x.shape
    depth = channels // groups
    padded = _power_of_2(depth)
    block = max(1, min(groups, 128 // padded))
    while groups % block:
        block //= 2
    rows = max(1, TILE // (block * padded))
    chunks = min(MOST_CHUNKS, _power_of_2(-(-pixels // max(rows, 128))))
    chunk = -(-pixels // (chunks * rows)) * rows
    sums = torch.empty(n, chunks, 2, groups, dtype=torch.float32, device=x.device)
    grid = (n, chunks, groups // block)
    shape = (pixels, chunk, groups, depth, padded, block, rows, chunks)
    first = weight if before is None else before  # read only where there is one
    kernels = _kernels()
    kernels.sums_of_groups[grid](x, first, sums, *shape, before is not None)
    kernels.normalised[grid](x, first, sums, weight, bias, out, eps, *shape, before is not None, silu)


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()


@functools.cache
def _kernels() -> Any:
    """Imported when first used: torch for CPUs comes without Triton."""
    from inference_server.engines.musetalk import kernels

    return kernels
