"""Fused group norms: the kernels by Triton's interpreter, and the folded networks against the plain ones."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inference_server.engines.musetalk.blocks import fold
from inference_server.engines.musetalk.checkpoint import load_models
from inference_server.engines.musetalk.settings import Settings
from testing.musetalk_weights import write
from tests.support.servers import ROOT

pytestmark = pytest.mark.torch

KERNELS = """
import itertools, torch
from torch.nn import functional as F
from inference_server.engines.musetalk import group_norm as g

g.fused = lambda device: True  # the interpreter runs them on the CPU
torch.manual_seed(0)
shapes = (1, 64, 8, 8), (2, 320, 16, 16), (1, 640, 5, 7), (3, 128, 24, 24), (1, 1920, 4, 4)
for shape, dtype in itertools.product(shapes, (torch.float32, torch.float16)):
    x, y = ((torch.randn(shape) * 3 + 1).to(dtype).to(memory_format=torch.channels_last) for _ in range(2))
    weight, bias, before = (torch.randn(shape[1]).to(dtype) for _ in range(3))
    within = 1e-5 if dtype == torch.float32 else 6e-3
    for silu, first in itertools.product((False, True), (None, before)):
        made = g.group_norm(x, 32, weight, bias, 1e-5, silu, first)
        exact = x.float() if first is None else x.float() + first.float()[:, None, None]
        exact = F.group_norm(exact, 32, weight.float(), bias.float(), 1e-5)
        exact = F.silu(exact) if silu else exact
        assert made.stride() == x.stride() and made.dtype == dtype
        assert (made.float() - exact).abs().max() <= within, (shape, dtype, silu, first is None)
    off = g.add(x, y, bias).float() - (x.float() + y.float() + bias.float()[:, None, None])
    assert off.abs().max() <= within * 2
tokens = torch.randn(2, 100, 64).transpose(1, 2)  # as attention over pixels has them
one, zero = torch.ones(64), torch.zeros(64)
assert (g.group_norm(tokens, 32, one, zero, 1e-5, False) - F.group_norm(tokens, 32)).abs().max() < 1e-5
print("all equal")
"""


@pytest.mark.process
def test_the_kernels_compute_what_torch_does() -> None:
    """In a process of its own: Triton reads TRITON_INTERPRET while it is imported."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    done = subprocess.run(
        [sys.executable, "-c", KERNELS],
        env={"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "all equal\n", done.stderr[-2000:]


def test_folded_networks_compute_what_the_plain_ones_do(tmp_path: Path) -> None:
    write(tmp_path / "weights", "tiny", seed=3)
    settings = Settings(tmp_path / "weights", cache_dir=tmp_path / "cache")
    models = load_models(settings, torch.float32, lambda share, sentence: None)
    unet, decoder = copy.deepcopy(models.unet), copy.deepcopy(models.vae.decoder)
    fold(unet, decoder)
    side = models.side // 8
    step = torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        latents, tokens = torch.randn(2, 8, side, side), torch.randn(2, 50, models.whisper.config.d_model)
        plain = models.unet(latents, step, encoder_hidden_states=tokens).sample
        folded = unet(latents, step, encoder_hidden_states=tokens).sample
        assert torch.allclose(plain, folded, atol=1e-4, rtol=1e-4)
        latents = torch.randn(2, 4, side, side)
        assert torch.allclose(models.vae.decoder(latents), decoder(latents), atol=1e-4, rtol=1e-4)
    assert sum(isinstance(one, torch.nn.GroupNorm) for one in [*unet.modules(), *decoder.modules()]) == 0
