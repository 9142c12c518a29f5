"""Whisper's encoder over the last seconds only, and the tokens that the UNet attends to."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.whisper.modeling_whisper import WhisperEncoder


def positional_encoding(tokens: int, width: int) -> Tensor:
    """``(tokens, width)`` float32 of Vaswani et al. 2017, section 3.5: sine in even columns, cosine in odd."""
    position = torch.arange(tokens, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    out = torch.zeros(tokens, width)
    out[:, 0::2] = torch.sin(position * rate)
    out[:, 1::2] = torch.cos(position * rate)
    return out


class SpeechEncoder(nn.Module):
    """The layers of a :class:`WhisperEncoder`, run over any length from any position."""

    encoding: Tensor

    def __init__(self, whisper: WhisperEncoder, window: slice) -> None:
        super().__init__()
        self.whisper = whisper
        self.window = window
        self.depth = len(whisper.layers) + 1
        tokens = (window.stop - window.start) * self.depth
        self.register_buffer(
            "encoding", positional_encoding(tokens, whisper.config.d_model), persistent=False
        )

    def features(self, mel: Tensor, first: Tensor, position: Tensor, missing: Tensor) -> Tensor:
        """All hidden states, ``(b, n, depth, width)``: the embedding, each inner layer, the normalised last.

        ``mel``: ``(b, 80, hops)``, zero before feature ``first`` and in the last ``missing``; all ``(b,)`` int64.
        The features there do not exist for the others, ``first`` itself has Whisper's ``position``.
        """
        w = self.whisper
        hops = torch.arange(mel.shape[-1], device=mel.device)
        early = (hops[None] >= 2 * first[:, None])[:, None].to(mel.dtype)
        x = F.gelu(w.conv1(mel)) * early
        x = F.gelu(w.conv2(x)).transpose(1, 2)
        place = torch.arange(x.shape[1], device=mel.device)
        steps = (place[None] - first[:, None] + position[:, None]).clamp(
            0, w.embed_positions.num_embeddings - 1
        )
        x = x + w.embed_positions(steps)
        mask = torch.zeros(len(mel), 1, 1, x.shape[1], dtype=x.dtype, device=x.device)
        outside = (place[None] < first[:, None]) | (place[None] >= x.shape[1] - missing[:, None])
        mask.masked_fill_(outside[:, None, None], torch.finfo(x.dtype).min)
        mask = mask.expand(-1, -1, x.shape[1], -1)
        states = [x]
        for layer in w.layers:
            out = layer(x, mask)
            x = out[0] if isinstance(out, tuple) else out  # by the version of transformers
            states.append(x)
        states[-1] = w.layer_norm(x)
        return torch.stack(states, dim=2)

    def tokens(self, window: Tensor) -> Tensor:
        """``(b, 50, width)`` from ``(b, 10, 5, width)``: time outside, depth inside, encoding added."""
        flat = window.flatten(1, 2)
        encoding: Tensor = self.encoding.to(flat.dtype)
        return flat + encoding

    def forward(
        self, mel: Tensor, first: Tensor, position: Tensor, low: Tensor, high: Tensor, missing: Tensor
    ) -> Tensor:
        """Tokens of one frame per row. Features outside ``low`` to ``high`` (``(b,)``) count as zero."""
        states = self.features(mel, first, position, missing)[:, self.window]
        place = torch.arange(self.window.start, self.window.stop, device=mel.device)[None]
        heard = (place >= low[:, None]) & (place < high[:, None])
        return self.tokens(states * heard[:, :, None, None].to(states.dtype))
