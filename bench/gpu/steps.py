"""The steps of ``bench.gpu_first``: each is called in a process of its own and returns its figures."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.engine import run
from inference_server.engines.base import BatchFailed, Progress, Track
from inference_server.engines.musetalk.device import choose_device
from inference_server.engines.musetalk.network import COLUMNS, PLACES
from inference_server.settings import Settings
from inference_server.streams.admission import measured_slots
from testing import musetalk_weights

Figures = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What a step works on. ``weights``: folder of real or random weights. ``cache``: of converted ones.
    ``tiny``: whether the random weights are. ``device``, ``decoder``, ``norms``: as in the engine's settings.
    ``batch``: largest bucket."""

    weights: Path
    cache: Path
    tiny: bool
    device: str
    batch: int
    decoder: str = "sd-vae"
    norms: str = "torch"

    def load(self, tell: Progress = lambda progress, sentence: None) -> run.Loaded:
        """An engine with one avatar."""
        if choose_device(self.device).type == "cpu":
            torch.set_num_threads(1)  # what else the machine does would make two wait for each other
        settings = {
            "musetalk_dir": str(self.weights),
            "cache_dir": str(self.cache),
            "device": self.device,
            "batch_size": str(self.batch),
            "decoder": self.decoder,
            "norms": self.norms,
            "avatar_mb": "256",
        }
        return run.load(settings, tell)


def versions(order: Order) -> Figures:
    """Versions, driver, and the device that the setting chooses."""
    import diffusers
    import transformers

    device = choose_device(order.device)
    cuda = device.type == "cuda"
    out = {
        "device": str(device),
        "name": torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": _cudnn() if cuda else None,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    if cuda:
        free, total = torch.cuda.mem_get_info(device)
        out |= {"memory_mib": total >> 20, "free_mib": free >> 20}
    return out


def _cudnn() -> int | None:
    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return version


def load(order: Order) -> Figures:
    """Random weights where there are no real ones, then loading and warm-up by stage."""
    if not order.weights.is_dir():
        began = time.monotonic()
        musetalk_weights.write(order.weights, "tiny" if order.tiny else "full", seed=7)
        print(f"random weights after {time.monotonic() - began:.1f} s", flush=True)
    began, stages = time.monotonic(), []

    def tell(share: float, sentence: str) -> None:
        stages.append([round(time.monotonic() - began, 2), sentence])
        print(f"{stages[-1][0]:6.1f} s {share:4.0%} {sentence}", flush=True)

    at = order.load(tell)
    engine = at.engine
    return {
        "stages": stages,
        "ready_s": round(at.seconds, 2),
        "cost_ms": {b: round(engine.cost_ms(b), 3) for b in engine.info.buckets},
        "prepare_step_ms": {"median": _round(statistics.median(at.steps)), "longest": _round(max(at.steps))},
        "memory": engine._memory_words(),
    }


def pictures(order: Order) -> Figures:
    """Right pictures: captured against plain, every bucket against the smallest, half against full precision."""
    engine = order.load().engine
    network, hops = engine._network, engine._plan.hops
    generator = torch.Generator().manual_seed(3)
    most = engine.info.buckets[-1]
    mel = torch.randn(most, 80, hops, generator=generator).to(engine._dtype)
    table = torch.zeros(most, COLUMNS + PLACES, dtype=torch.int64)
    table[:, 1], table[:, 3], table[:, 4] = 40, 500, torch.arange(most) % 4
    out: Figures = {}
    with torch.inference_mode():
        latents = torch.randn(network.latents[:4].shape, generator=generator)
        network.latents[:4].copy_(latents.to(network.latents.dtype))
        first = None
        for size in engine.info.buckets:
            there = mel[:size].to(engine._device), table[:size].to(engine._device)
            captured = engine._runner.run(mel[:size], table[:size]).cpu().int()
            plain = network(*there).cpu().int()
            again = engine._runner.run(mel[:size], table[:size]).cpu().int()
            first = captured[0] if first is None else first
            out[f"bucket {size}"] = {
                "captured_plain_levels": int((captured - plain).abs().max()),
                "again_levels": int((captured - again).abs().max()),
                "first_row_levels": int((captured[0] - first).abs().max()),
                "least": int(captured.min()),
                "most": int(captured.max()),
            }
        if engine._dtype == torch.float16 and first is not None:
            exact = copy.deepcopy(network).float()
            exact.latents = network.latents[:4].float()
            half = exact(mel[:1].to(engine._device).float(), table[:1].to(engine._device)).cpu().int()[0]
            off = (half - first).abs().float()
            out["half_float_levels"] = {"max": int(off.max()), "mean": _round(off.mean().item())}
    return out


def costs(order: Order) -> Figures:
    """Cost by bucket: the device's and the engine thread's, and the first frame of an idle engine."""
    at = order.load()
    repeats = 30 if _cuda(at) else 2
    out: Figures = {
        f"bucket {c.rows}": {
            "batch_ms": _round(c.batch_ms),
            "frame_ms": _round(c.batch_ms / c.rows),
            "host_ms": _round(c.host_ms),
            "fps": round(1000 * c.rows / c.batch_ms, 1),
        }
        for c in run.bucket_costs(at, repeats)
    }
    return out | {"first_frame_ms": _round(statistics.median(run.first_frame_ms(at, repeats)))}


def parts(order: Order) -> Figures:
    """Where the time goes: the networks by themselves, and on a GPU the kernels by kind."""
    at = order.load()
    engine, cuda = at.engine, _cuda(at)
    network, device, dtype = engine._network, engine._device, engine._dtype
    rows, side = min(4, engine.info.buckets[-1]), engine._side // 8
    repeats = 10 if cuda else 1
    with torch.inference_mode():
        latents = torch.randn(rows, 8, side, side, dtype=dtype, device=device)
        latents = latents.contiguous(memory_format=torch.channels_last)
        coded = latents[:, :4].contiguous(memory_format=torch.channels_last)
        width = network.encoder.whisper.config.d_model
        tokens = torch.randn(rows, 50, width, dtype=dtype, device=device)
        mel = torch.randn(rows, 80, engine._plan.hops, dtype=dtype, device=device)
        zero = torch.zeros(rows, dtype=torch.int64, device=device)
        out: Figures = {
            "rows": rows,
            "whisper_ms": _timed(
                lambda: network.encoder(mel, zero, zero, zero, zero + 500, zero), repeats, cuda
            ),
            "unet_ms": _timed(lambda: network.unet_output(latents, tokens), repeats, cuda),
            "decoder_ms": _timed(lambda: network.decode(coded), repeats, cuda),
            "decoder_nchw_ms": _timed(lambda: network.decode(coded.contiguous()), repeats, cuda),
        }
        if cuda:
            out["kernels_us"] = _kernels(lambda: network.decode(network.unet_output(latents, tokens)))
    return out


def _kernels(call: Callable[[], Any]) -> dict[str, int]:
    """Microseconds of one call by kind of kernel."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
    words = {
        "layout": ("nchwtonhwc", "nhwctonchw", "copy"),
        "norm": ("norm", "rowwisemoments", "sums_of_groups"),
        "convolution": ("conv", "xmma", "cudnn", "implicit"),
        "product": ("gemm", "cutlass"),
        "attention": ("flash", "fmha"),
    }
    kinds: dict[str, float] = {}
    for event in seen.key_averages():
        name = event.key.lower()
        kind = next((k for k, some in words.items() if any(w in name for w in some)), "rest")
        kinds[kind] = kinds.get(kind, 0.0) + getattr(event, "self_device_time_total", 0.0) / 3
    print(seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=24, max_name_column_width=110))
    return {kind: round(us) for kind, us in sorted(kinds.items(), key=lambda one: -one[1])}


def helps(order: Order) -> Figures:
    """What would help: TAESD, the lower part of the face alone, and on a GPU a compiled decoder."""
    from diffusers import AutoencoderTiny

    at = order.load()
    engine, cuda = at.engine, _cuda(at)
    network, side = engine._network, engine._side // 8
    rows, repeats = min(4, engine.info.buckets[-1]), 10 if cuda else 1
    with torch.inference_mode():
        coded = torch.randn(rows, 4, side, side, dtype=engine._dtype, device=engine._device)
        coded = coded.contiguous(memory_format=torch.channels_last)
        config = musetalk_weights._taesd_config(order.tiny)
        made: Any = AutoencoderTiny.from_config(config)  # type: ignore[no-untyped-call]
        tiny = made.to(engine._device, engine._dtype)
        tiny = tiny.to(memory_format=torch.channels_last).eval()
        out: Figures = {
            "rows": rows,
            "whole_ms": _timed(lambda: network.decode(coded), repeats, cuda),
            "lower_part_ms": _timed(lambda: network.decode(coded[:, :, side * 3 // 8 :]), repeats, cuda),
            "taesd_ms": _timed(lambda: tiny.decode(coded).sample, repeats, cuda),
        }
        print(out, flush=True)  # compiling may be cut off
        if cuda:
            began = time.monotonic()
            compiled: Any = torch.compile(network.vae.decoder, dynamic=False)
            compiled(coded)
            out["compile_s"] = round(time.monotonic() - began, 1)
            out["compiled_ms"] = _timed(lambda: compiled(coded), repeats, cuda)
            out["decoder_ms"] = _timed(lambda: network.vae.decoder(coded), repeats, cuda)
    return out


def live(order: Order) -> Figures:
    """Streams in real time: as many as the server would sell slots, and a quarter more."""
    at = order.load()
    engine = at.engine
    longest = Settings.model_fields["longest_batch_ms"].default
    slots = measured_slots([(b, engine.cost_ms(b)) for b in engine.info.buckets], longest, 0.75)
    out: Figures = {"slots": slots}
    for streams in (max(slots, 1), max(slots + 1, slots * 5 // 4)):
        seen = run.live(at, streams, 12.0 if _cuda(at) else 1.0, longest)
        out[f"{streams} streams"] = {"p99_late_ms": _round(seen.p99)}
        print(streams, "streams:", out[f"{streams} streams"], flush=True)
    return out


def memory(order: Order) -> Figures:
    """Out of memory: a batch is lost, the next is drawn. On the CPU only that the next is drawn."""
    at = order.load()
    engine = at.engine
    tracks = [run._turn(at, 8.0, n) for n in range(engine.info.buckets[-1])]
    out: Figures = {}
    if _cuda(at):
        free, _ = torch.cuda.mem_get_info(engine._device)
        taken = torch.empty(max(free - (24 << 20), 1), dtype=torch.uint8, device=engine._device)
        for n in range(3):
            try:
                out[f"full {n}"] = _draw(at, tracks)
            except BatchFailed as error:
                out[f"full {n}"] = str(error)
        del taken
        torch.cuda.empty_cache()
    out["after"] = _draw(at, tracks)
    return out


def _draw(at: run.Loaded, tracks: list[Track]) -> str:
    ticket = at.engine.submit(run._rows(at, tracks, 140))
    results = at.engine.collect(ticket, 5.0)
    return "nothing after 5 s" if results is None else f"{sum(r.kind == 'mouth' for r in results)} drawn"


def _cuda(at: run.Loaded) -> bool:
    return at.engine._device.type == "cuda"


def _timed(call: Callable[[], Any], repeats: int, cuda: bool) -> float:
    """Median milliseconds."""
    took = []
    for n in range(repeats + 2 if cuda else repeats):
        began = time.perf_counter()
        call()
        if cuda:
            torch.cuda.synchronize()
        if n >= 2 or not cuda:
            took.append((time.perf_counter() - began) * 1000)
    return _round(statistics.median(took))


def _round(value: float) -> float:
    return round(float(value), 3)
