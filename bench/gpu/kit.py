"""Pack what a GPU machine without internet needs beside this checkout: ``make gpu-kit``.

    python -m bench.gpu.kit [--python 3.12] [--public FOLDER] [--out .gpu-kit]

The machine has PyTorch with CUDA, transformers, safetensors, OpenCV and NumPy; the kit brings the wheels that are
missing there, the public implementation to compare with where FOLDER is its checkout, and ``run.sh``, which prints
every GPU figure in at most ten minutes. Weights and speech are made there from seeds: nothing large travels.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

LIMIT = 64 << 20
WHEELS = ("diffusers==0.42.1", "importlib-metadata", "zipp")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

RUN = """#!/bin/bash
# Every figure of docs/musetalk.md that needs a GPU. Run from the root of the checkout: bash {kit}/run.sh
set -eu
kit={kit}
python3 -m pip install -q --no-index --no-deps --target "$kit/site" "$kit"/wheels/*.whl 2>/dev/null || true
export PYTHONPATH="$kit/site:$PWD" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
began=$SECONDS
left() {{ echo $(( 585 - SECONDS + began )); }}
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
python3 -c "
from pathlib import Path
from testing.musetalk_weights import write
write(Path('$work/models'), 'full', seed=7)"
echo "== weights after $((SECONDS - began)) s"
public=()
if [ -d "$kit/public" ]; then public=(--public "$kit/public"); fi
bench=(python3 -m bench.engine --dir "$work/models" --cache "$work/cache" --batch 16)
timeout "$(left)" "${{bench[@]}}" --modes graph --seconds 15 "${{public[@]}}" || echo "== stopped"
timeout "$(left)" "${{bench[@]}}" --modes eager --seconds 5 || echo "== stopped"
timeout "$(left)" "${{bench[@]}}" --modes compile --batch 8 --seconds 10 || echo "== stopped"
echo "== all after $((SECONDS - began)) s"
"""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", default="3.12", help="version on the GPU machine")
    parser.add_argument("--public", type=Path, help="checkout of the public implementation")
    parser.add_argument("--out", type=Path, default=Path(".gpu-kit"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    wheels = options.out / "wheels"
    wheels.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(wheels),
    ]
    command += ["--python-version", options.python, "--implementation", "cp"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    if subprocess.run([*command, *WHEELS], check=False).returncode:
        print("the wheels could not be fetched: is a package index within reach?", file=sys.stderr)
        return 1
    if options.public:
        for name in ("models", "utils"):
            source = options.public / "musetalk" / name
            for path in source.glob("*.py"):
                target = options.out / "public" / "musetalk" / name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    run = options.out / "run.sh"
    run.write_text(RUN.format(kit=options.out))
    run.chmod(0o755)
    size = sum(p.stat().st_size for p in options.out.rglob("*") if p.is_file())
    if size > LIMIT:
        print(f"the kit has {size / 2**20:.1f} MiB, more than {LIMIT >> 20}", file=sys.stderr)
        return 1
    print(f"{options.out}: {size / 2**20:.1f} MiB; on the GPU machine: bash {run}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
