"""Everything that is made of the contract: ``python protos/generate.py OUT`` writes ``OUT/visavis/avatar/v1``.

Needs what protos/requirements.txt names; ``make proto`` has it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc
from plain import write

HERE = Path(__file__).resolve().parent
PROTO = "visavis/avatar/v1/avatar.proto"
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def main() -> int:
    out = Path(sys.argv[1])
    beside = str(Path(sys.executable).parent)
    with tempfile.TemporaryDirectory() as scratch:
        descriptors = Path(scratch) / "descriptors"
        code: int = protoc.main(
            [
                "protoc",
                f"-I{HERE}",
                f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
                *(f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
                *(f"--plugin={name}={shutil.which(name, path=beside)}" for name in PLUGINS),
                "--include_source_info",
                f"--descriptor_set_out={descriptors}",
                PROTO,
            ]
        )
        if code == 0:
            write(descriptors, out / Path(PROTO).parent / "contract.py")
    return code


if __name__ == "__main__":
    sys.exit(main())
