"""The networks' residual blocks with fewer passes over memory: what is constant at the one step is folded in.

MuseTalk calls its UNet once, at step 0, so what a block adds for the time step is a constant: it joins the bias of
the block's first convolution, which the norm after it adds while it reads. The bias of the second one is added
together with the block's other way. Same arithmetic as diffusers' ``ResnetBlock2D``, in another order of rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from inference_server.engines.musetalk.group_norm import add, group_norm


class Norm(nn.Module):
    """``nn.GroupNorm`` by :func:`group_norm`."""

    def __init__(self, norm: nn.GroupNorm, silu: bool) -> None:
        super().__init__()
        self.groups, self.eps, self.silu = norm.num_groups, norm.eps, silu
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """``before``: ``(c,)``, added first."""
        return group_norm(x, self.groups, self.weight, self.bias, self.eps, self.silu, before)


class Residual(nn.Module):
    """One ``ResnetBlock2D``. ``embedding``: ``(1, m)``, of the one step, where the block takes any."""

    before: Tensor
    after: Tensor

    def __init__(self, block: Any, embedding: Tensor | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(block.norm1, silu=True), Norm(block.norm2, silu=True)
        self.conv1, self.conv2, self.shortcut = block.conv1, block.conv2, block.conv_shortcut
        self.register_buffer("before", _bias(self.conv1), persistent=False)
        if block.time_emb_proj is not None and embedding is not None:
            self.before = self.before + block.time_emb_proj(F.silu(embedding))[0]
        self.register_buffer("after", _bias(self.conv2), persistent=False)
        if self.shortcut is not None:
            self.after = self.after + _bias(self.shortcut)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        """``temb`` is what diffusers hands to its own block; it is in ``before`` already."""
        y = self.conv2(self.norm2(self.conv1(self.norm1(x)), self.before))
        return add(x if self.shortcut is None else self.shortcut(x), y, self.after)


def _bias(convolution: nn.Conv2d) -> Tensor:
    """The bias, which the convolution then does without."""
    bias = convolution.bias
    assert bias is not None
    convolution.bias = None
    return bias.detach()


def fold(unet: Any, decoder: Any) -> None:
    """Put :class:`Residual` and :class:`Norm` into a UNet2DConditionModel and the decoder of an AutoencoderKL."""
    weights = next(unet.parameters())
    with torch.no_grad():
        step = unet.time_proj(torch.zeros(1, dtype=torch.int64)).to(weights.dtype)
        embedding: Tensor = unet.time_embedding(step)
        for network in (unet, decoder):
            _replace(network, embedding)
            network.conv_norm_out, network.conv_act = Norm(network.conv_norm_out, silu=True), nn.Identity()


def _plain(block: Any) -> bool:
    """Whether :class:`Residual` computes what it does."""
    adds = block.time_emb_proj is None or block.time_embedding_norm == "default"
    return bool(adds and block.output_scale_factor == 1 and not block.up and not block.down)


def _replace(module: nn.Module, embedding: Tensor) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, ResnetBlock2D) and _plain(child):
            setattr(module, name, Residual(child, embedding))
        elif isinstance(child, nn.GroupNorm) and name in ("norm", "group_norm"):
            setattr(module, name, Norm(child, silu=False))
        else:
            _replace(child, embedding)
