"""Triton's kernels of :mod:`.group_norm`. Pictures are ``(n, pixels, channels)``, contiguous."""

import triton
import triton.language as tl


@triton.jit
def sums_of_groups(
    x,
    before,
    sums,
    pixels,
    chunk,
    groups: tl.constexpr,
    depth: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    rows: tl.constexpr,
    chunks: tl.constexpr,
    has_before: tl.constexpr,
):
    """Sum and sum of squares of each group, for each chunk of the pixels."""
    n = tl.program_id(0).to(tl.int64)
    at_chunk = tl.program_id(1)
    group = tl.program_id(2) * block + tl.arange(0, block)
    inside = (tl.arange(0, padded) < depth)[None, None, :]
    channel = group[:, None] * depth + tl.arange(0, padded)[None, :]
    first = n * pixels * (groups * depth)
    end = tl.minimum((at_chunk + 1) * chunk, pixels)
    total = tl.zeros([block], tl.float32)
    square = tl.zeros([block], tl.float32)
    for start in range(at_chunk * chunk, end, rows):
        row = start + tl.arange(0, rows)
        mask = (row < end)[:, None, None] & inside
        place = first + row[:, None, None] * (groups * depth) + channel[None, :, :]
        value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        if has_before:
            shift = tl.load(before + channel[None, :, :], mask=inside, other=0.0).to(tl.float32)
            value = tl.where(mask, value + shift, 0.0)
        total += tl.sum(tl.sum(value, axis=2), axis=0)
        square += tl.sum(tl.sum(value * value, axis=2), axis=0)
    out = sums + (n * chunks + at_chunk) * 2 * groups + group
    tl.store(out, total)
    tl.store(out + groups, square)


@triton.jit
def normalised(
    x,
    before,
    sums,
    weight,
    bias,
    out,
    eps,
    pixels,
    chunk,
    groups: tl.constexpr,
    depth: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    rows: tl.constexpr,
    chunks: tl.constexpr,
    has_before: tl.constexpr,
    silu: tl.constexpr,
):
    """The picture itself, from all its chunks' sums."""
    n = tl.program_id(0).to(tl.int64)
    at_chunk = tl.program_id(1)
    group = tl.program_id(2) * block + tl.arange(0, block)
    part = (n * chunks + tl.arange(0, chunks))[:, None] * 2 * groups + group[None, :]
    count = pixels * depth
    mean = tl.sum(tl.load(sums + part), axis=0) / count
    variance = tl.maximum(tl.sum(tl.load(sums + part + groups), axis=0) / count - mean * mean, 0.0)
    spread = 1.0 / tl.sqrt(variance + eps)
    inside = (tl.arange(0, padded) < depth)[None, None, :]
    channel = (group[:, None] * depth + tl.arange(0, padded)[None, :])[None, :, :]
    scale = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32) * spread[None, :, None]
    shift = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32) - mean[None, :, None] * scale
    if has_before:
        shift += tl.load(before + channel, mask=inside, other=0.0).to(tl.float32) * scale
    first = n * pixels * (groups * depth)
    end = tl.minimum((at_chunk + 1) * chunk, pixels)
    for start in range(at_chunk * chunk, end, rows):
        row = start + tl.arange(0, rows)
        mask = (row < end)[:, None, None] & inside
        place = first + row[:, None, None] * (groups * depth) + channel
        value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) * scale + shift
        if silu:
            value = value / (1.0 + tl.exp(-value))
        tl.store(out + place, value.to(out.dtype.element_ty), mask=mask)


@triton.jit
def add_with_bias(x, y, bias, out, size, channels, tile: tl.constexpr):
    """Two pictures and a bias."""
    place = tl.program_id(0).to(tl.int64) * tile + tl.arange(0, tile)
    mask = place < size
    value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    value += tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
    value += tl.load(bias + place % channels, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=mask)
