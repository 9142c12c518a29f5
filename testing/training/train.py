"""Train the sound → mouth network: ``python -m testing.training.train``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from inference_server.engines.portrait import visemes
from inference_server.engines.portrait.features import BANDS
from inference_server.lipsync.phones import GROUPS
from testing.training.dataset import Arrays, training_set

WIDTH = 96
LAYERS = ((5, 1, False), (3, 2, True), (3, 4, True), (3, 8, True))
"""Taps, dilation, residual of each convolution: 330 ms in all."""
DELAY = 5
SEGMENT = 320
SEED = 20261122


class Net(nn.Module):
    """The causal network of :mod:`..visemes`, with a second head for sound groups that only training sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [BANDS, *[width] * len(LAYERS)]
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, taps, dilation=dilation)
            for a, b, (taps, dilation, _) in zip(sizes[:-1], sizes[1:], LAYERS, strict=True)
        )
        self.head = nn.Conv1d(width, visemes.OUTPUTS, 1)
        self.groups = nn.Conv1d(width, len(GROUPS), 1)
        self.drop = nn.Dropout1d(0.05)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(n, 26, hops)`` → raw outputs ``(n, 5, hops)`` and group logits ``(n, 7, hops)``."""
        for conv, (taps, dilation, residual) in zip(self.convs, LAYERS, strict=True):
            y = functional.relu(conv(functional.pad(x, (dilation * (taps - 1), 0))))
            x = x + y if residual else y
        return self.head(x), self.groups(self.drop(x))


def loss_of(
    raw: torch.Tensor, logits: torch.Tensor, mouth: torch.Tensor, group: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Squared error of the curves, logistic loss of the closures and of speech, cross-entropy of the groups."""
    speech = (group != 0).float()
    w = weight[:, None]
    opening = torch.sigmoid(raw[:, 0])
    error = 6.0 * (w * (opening - mouth[:, 0]) ** 2).mean()
    spread = torch.tanh(raw[:, 1])
    error = error + 2.0 * (w * (0.1 + speech) * (spread - mouth[:, 1]) ** 2).mean()
    for i, positive in ((2, 2.5), (3, 2.0)):
        bce = functional.binary_cross_entropy_with_logits(
            raw[:, i], mouth[:, i], pos_weight=torch.tensor(positive), reduction="none"
        )
        error = error + 0.5 * (w * bce).mean()
    silence = functional.binary_cross_entropy_with_logits(raw[:, 4], speech, reduction="none")
    kinds = functional.cross_entropy(logits, group, reduction="none")
    return error + 0.3 * (w * silence).mean() + 0.15 * (w * kinds).mean()


def segments(
    speech: Arrays, delay: int
) -> tuple[NDArray[np.float16], NDArray[np.float16], NDArray[np.int8], NDArray[np.float16]]:
    """The speech cut into pieces of :data:`SEGMENT` hops; targets come ``delay`` hops later."""
    n = (len(speech.features) - delay) // SEGMENT
    late, now = slice(delay, delay + n * SEGMENT), slice(0, n * SEGMENT)
    x = speech.features[late].reshape(n, SEGMENT, -1).transpose(0, 2, 1).copy()
    y = speech.mouth[now].reshape(n, SEGMENT, -1).transpose(0, 2, 1).copy()
    return x, y, speech.group[now].reshape(n, SEGMENT), speech.weight[now].reshape(n, SEGMENT)[:, 0].copy()


def export(net: Net, path: Path, delay: int) -> None:
    """Write the weights as float16 arrays that :func:`..visemes.load_network` reads."""
    arrays: dict[str, NDArray[np.generic]] = {"layers": np.array(len(LAYERS))}
    for i, (conv, (taps, dilation, residual)) in enumerate(zip(net.convs, LAYERS, strict=True)):
        assert isinstance(conv, nn.Conv1d) and conv.bias is not None
        weight = conv.weight.detach().numpy()  # outputs, inputs, taps
        arrays[f"w{i}"] = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0]).astype(np.float16)
        arrays[f"b{i}"] = conv.bias.detach().numpy().astype(np.float16)
        arrays[f"t{i}"], arrays[f"d{i}"] = np.array(taps), np.array(dilation)
        arrays[f"r{i}"] = np.array(residual)
    assert net.head.bias is not None
    arrays["head"] = net.head.weight.detach().numpy()[:, :, 0].T.astype(np.float16)
    arrays["head_bias"] = net.head.bias.detach().numpy().astype(np.float16)
    arrays["delay"] = np.array(delay)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def train(copies: int, epochs: int, width: int, delay: int, seed: int) -> Net:
    """Train from scratch; prints the loss of each epoch."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    began = time.monotonic()
    x, y, g, w = segments(training_set(copies, seed), delay)
    print(f"{len(x) * SEGMENT / 360000:.1f} h of features in {time.monotonic() - began:.0f} s", flush=True)
    net = Net(width)
    batch = 48
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        total = 0.0
        picks = order.permutation(len(x))[: len(x) // batch * batch].reshape(-1, batch)
        for pick in picks:
            raw, logits = net(torch.from_numpy(x[pick].astype(np.float32)))
            loss = loss_of(
                raw,
                logits,
                torch.from_numpy(y[pick].astype(np.float32)),
                torch.from_numpy(g[pick].astype(np.int64)),
                torch.from_numpy(w[pick].astype(np.float32)),
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        print(
            f"epoch {epoch + 1}: loss {total / len(picks):.4f}, {time.monotonic() - began:.0f} s", flush=True
        )
    return net.eval()


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=4, help="one clean and n-1 augmented copies")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--delay", type=int, default=DELAY, help="look-ahead in hops of 10 ms")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path(visemes.__file__).with_name(visemes.WEIGHTS))
    args = parser.parse_args()
    net = train(args.copies, args.epochs, args.width, args.delay, args.seed)
    export(net, args.out, args.delay)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
