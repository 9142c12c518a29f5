"""The checked-in code is what ``make proto`` makes of the contract."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.peers.peers import absent

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-proto" / "bin" / "python"
MADE = ("avatar_pb2.py", "avatar_pb2.pyi", "avatar_pb2_grpc.py", "avatar_pb2_grpc.pyi", "contract.py")


@pytest.mark.process
def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    if not PYTHON.exists():
        absent("what generates code of the contract", "make proto-tools")
    subprocess.run([PYTHON, ROOT / "protos" / "generate.py", tmp_path], check=True, capture_output=True)
    folder = Path("visavis/avatar/v1")
    assert sorted(p.name for p in (tmp_path / folder).iterdir()) == sorted(MADE)
    for path in (folder / name for name in MADE):
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"{path} is stale: run make proto"
