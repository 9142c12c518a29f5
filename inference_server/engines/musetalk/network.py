"""Whisper, UNet and decoder as one computation per bucket: from mel to the drawn face in uint8."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from inference_server.engines.base import BatchFailed, EngineDead
from inference_server.engines.musetalk.checkpoint import Models
from inference_server.engines.musetalk.encoder import SpeechEncoder
from inference_server.engines.musetalk.settings import Mode
from inference_server.engines.musetalk.speech import Plan

COLUMNS = 6  # of the table that the network reads: first, position, low, high, missing, latent
PLACES = 9  # further ones, which say where the faces go


class LipNetwork(nn.Module):
    """``latents``: ``(n, 8, s / 8, s / 8)``, of every resident avatar frame."""

    def __init__(self, models: Models, plan: Plan, latents: Tensor) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(models.whisper, plan.window)
        self.unet = models.unet
        self.vae = models.vae
        self.tiny = models.tiny
        self.latents = latents
        self.scaling = float(models.vae.config.scaling_factor)
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64), persistent=False)

    def encode_face(self, face: Tensor) -> Tensor:
        """``(b, 4, ...)`` scaled latents of ``(b, 3, s, s)`` pictures in -1..1: the mode, never a sample."""
        mode: Tensor = self.vae.encode(face).latent_dist.mode()
        return mode * self.scaling

    def unet_output(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """The one denoising call, at step 0: latents of the spoken face."""
        return self.unet(latents, self.step, encoder_hidden_states=tokens).sample

    def decode(self, latents: Tensor) -> Tensor:
        """``(b, 3, s, s)`` uint8 RGB. TAESD takes latents as they are, the VAE unscaled ones."""
        if self.tiny is not None:
            picture = self.tiny.decode(latents).sample
        else:
            picture = self.vae.decode(latents / self.scaling).sample
        return ((picture.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)

    def forward(self, mel: Tensor, table: Tensor) -> Tensor:
        """``mel``: ``(b, 80, hops)``. ``table``: ``(b, 14)`` int64, see ``COLUMNS``."""
        first, position, low, high, missing, place = table[:, :COLUMNS].unbind(1)
        tokens = self.encoder(mel, first, position, low, high, missing)
        latents = self.latents.index_select(0, place).contiguous(memory_format=torch.channels_last)
        return self.decode(self.unet_output(latents, tokens))


@contextmanager
def device_errors() -> Iterator[None]:
    """What torch raises as the engine's own errors: out of memory loses a batch, a CUDA error the process."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise BatchFailed(f"out of device memory: {str(error).splitlines()[0]}") from error
    except torch.AcceleratorError as error:
        raise EngineDead(f"the GPU has failed: {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        if any(word in first for word in ("CUDA", "cuDNN", "CUDNN", "cuBLAS", "CUBLAS")):
            raise EngineDead(f"the GPU has failed: {first}") from error
        raise BatchFailed(f"the batch failed: {first}") from error


class Runner:
    """Runs the network in buckets: captured graphs on a GPU, the same code plainly (or compiled) elsewhere."""

    def __init__(
        self, network: LipNetwork, plan: Plan, buckets: tuple[int, ...], mode: Mode, device: torch.device
    ) -> None:
        weights = next(network.unet.parameters())
        self.network = network
        self.device = device
        self.buckets = buckets
        self.mode: Mode = "eager" if mode == "graph" and device.type != "cuda" else mode
        self._mel = torch.zeros(buckets[-1], 80, plan.hops, dtype=weights.dtype, device=device)
        self.table = torch.zeros(buckets[-1], COLUMNS + PLACES, dtype=torch.int64, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._call: Callable[[Tensor, Tensor], Tensor] = network
        if self.mode == "compile":
            self._call = torch.compile(network, dynamic=False)

    def bucket(self, rows: int) -> int:
        """The smallest bucket that holds them. Raises :class:`BatchFailed`."""
        for size in self.buckets:
            if rows <= size:
                return size
        raise BatchFailed(f"{rows} rows are more than the largest bucket, {self.buckets[-1]}")

    def run(self, mel: Tensor, table: Tensor) -> Tensor:
        """``(b, 3, s, s)`` uint8 on the device. Inputs on the host, pinned where there is a GPU, of a bucket's
        size. The result is valid until the next run."""
        size = len(table)
        self._mel[:size].copy_(mel, non_blocking=True)
        self.table[:size].copy_(table, non_blocking=True)
        captured = self._graphs.get(size)
        if captured is None:
            return self._call(self._mel[:size], self.table[:size])
        graph, faces = captured
        graph.replay()
        return faces

    def warm_up(self, size: int) -> float:
        """Run (and capture) one bucket; returns its milliseconds, the median of several runs.

        As ``torch.cuda.graphs`` asks: first on a side stream, then captured. All graphs share one pool, since
        they are replayed one after the other on one stream and what a replay returns is used before the next.
        """
        if self.device.type != "cuda":
            self.run(self._mel[:size].clone(), self.table[:size].clone())
            return min(self._timed(size) for _ in range(2))
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                self._call(self._mel[:size], self.table[:size])
        torch.cuda.current_stream(self.device).wait_stream(side)
        if self.mode != "eager":
            graph = torch.cuda.CUDAGraph()
            pool = next(iter(self._graphs.values()))[0].pool() if self._graphs else None
            with torch.cuda.graph(graph, pool=pool):
                faces = self._call(self._mel[:size], self.table[:size])
            self._graphs[size] = (graph, faces)
        self._timed(size)
        return statistics.median(self._timed(size) for _ in range(5))

    def _timed(self, size: int) -> float:
        mel, table = self._mel[:size].cpu(), self.table[:size].cpu()
        self.synchronize()
        began = time.perf_counter()
        self.run(mel, table)
        self.synchronize()
        return (time.perf_counter() - began) * 1000

    def synchronize(self) -> None:
        """Wait until the device has nothing to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
