"""Figures of the MuseTalk engine on this machine.

    python -m bench.engine [--size full|tiny] [--public FOLDER] [--seconds 20]

Random weights (the same for everything in the run) unless --dir names real ones. On a GPU: every mode and
decoder; on a CPU: what one can wait for. FOLDER is a checkout of the public implementation, whose own loop is
then measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from bench.engine import run
from bench.engine.public import public_speeds
from inference_server.engines.musetalk.device import choose_device
from inference_server.settings import Settings
from testing import musetalk_weights


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dir", type=Path, help="folder of weights")
    parser.add_argument("--cache", type=Path, help="folder for converted weights")
    parser.add_argument("--size", choices=("full", "tiny"), default="full", help="of the random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=0, help="largest bucket")
    parser.add_argument("--modes", help="of graph, eager, compile; comma between")
    parser.add_argument("--decoders", default="sd-vae,taesd")
    parser.add_argument("--threads", type=int, default=0, help="of torch on the CPU")
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the run with many streams")
    parser.add_argument("--public", type=Path, help="checkout of the public implementation")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as made:
        root = options.dir or Path(made) / "models"
        if options.dir is None:
            musetalk_weights.write(root, options.size)
        _all(options, root, options.cache or Path(made) / "cache")
    return 0


def _all(options: argparse.Namespace, root: Path, cache: Path) -> None:
    device = choose_device(options.device)
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads"
    tflops = run.matmul_tflops(device)
    kind = "fp16" if cuda else "fp32"
    weights = options.dir or f"random {options.size}"
    print(f"{name}; torch {torch.__version__}; weights: {weights}; best {kind} product {tflops:.3g} TFLOP/s")
    full = options.size == "full"
    best: dict[str, float] = {}
    for decoder in options.decoders.split(","):
        for mode in (options.modes or ("eager,graph,compile" if cuda else "eager")).split(","):
            settings = {
                "musetalk_dir": str(root),
                "cache_dir": str(cache),
                "device": str(device),
                "decoder": decoder,
                "mode": mode,
                "batch_size": str(options.batch or (32 if cuda else 2)),
                "avatar_mb": "256",
            }
            fps = _one(options, settings, tflops, full, cuda)
            best[decoder] = max(best.get(decoder, 0.0), fps)
    if options.public:
        print("\nthe public implementation's own loop (sd-vae), same weights, same 720p picture")
        speeds = public_speeds(options.public, root, device, 256 if cuda else 2)
        for s in speeds:
            print(
                f"  batch {s.batch:2}: {s.fps:8.2f} fps with blending, {s.model_fps:8.2f} fps networks only"
            )
        theirs = max(s.fps for s in speeds)
        for decoder, fps in best.items():
            print(f"  ours with {decoder}: {fps:.2f} fps, {fps / theirs:.2f} times its best")


def _one(
    options: argparse.Namespace, settings: dict[str, str], tflops: float, full: bool, cuda: bool
) -> float:
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    at = run.load(settings)
    print(f"\n{settings['decoder']}, {settings['mode']}: ready after {at.seconds:.1f} s")
    print(
        f"  preparation: {len(at.steps)} steps for 4 frames, median {statistics.median(at.steps):.2f} ms, longest "
        f"{max(at.steps):.2f} ms"
    )
    costs = run.bucket_costs(at, options.repeats or (50 if cuda else 3))
    for c in costs:
        line = f"  batch {c.rows:2}: {c.batch_ms / c.rows:9.3f} ms/frame {c.batch_ms:9.2f} ms/batch"
        line += f" {c.host_ms:8.2f} ms host {c.d2h_bytes:8} bytes to the host"
        if full:
            reached = run.GFLOP[settings["decoder"]] * c.rows / c.batch_ms  # GFLOP a ms is TFLOP/s
            line += f" {reached / tflops:6.1%} of the product"
        print(line)
    fps = max(1000 * c.rows / c.batch_ms for c in costs)
    print(f"  best {fps:.2f} fps, {fps / 25:.1f} streams at 25 fps by throughput")
    if cuda:
        print(f"  device memory at most {torch.cuda.max_memory_allocated() >> 20} MiB")
    firsts = run.first_frame_ms(at, 50 if cuda else 3)
    print(
        f"  first frame, engine idle: median {statistics.median(firsts):.2f} ms, worst {max(firsts):.2f} ms"
    )
    streams = int(fps / 25)
    while streams > 0:
        seen = run.live(at, streams, options.seconds, Settings.model_fields["longest_batch_ms"].default)
        print(f"  {streams} streams at 25 fps for {options.seconds:g} s: p99 lateness {seen.p99:.1f} ms")
        if seen.p99 <= 40:
            break
        streams = streams * 9 // 10
    at.engine.detach(at.handle)
    at.engine.close()
    return fps


if __name__ == "__main__":
    raise SystemExit(main())
