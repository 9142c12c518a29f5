"""The checked-in code is what ``make proto`` makes of the contract."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PROTO = "visavis/avatar/v1/avatar.proto"


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    plugins = [
        shutil.which(name, path=str(Path(sys.executable).parent))
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    assert all(plugins), "mypy-protobuf is not installed"
    code = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'protos'}",
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
            *(f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
            *(f"--plugin={Path(str(plugin)).name}={plugin}" for plugin in plugins),
            PROTO,
        ]
    )
    assert code == 0
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("avatar_pb2*"))
    assert len(made) == 4
    for path in made:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"{path} is stale: run make proto"
