"""bench.roomkit_tests over a checkout: its package `tests` is in nobody's way, and nothing run is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT

pytestmark = pytest.mark.process

RUN = """
import sys
from pathlib import Path
from bench.roomkit_tests import tests
done = tests("title", Path(sys.argv[1]), {})
print(f"passed={done.passed} failed={len(done.failed)}")
"""


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("async def test_one():\n    pass\n", "passed=1 failed=0"),
        ("def test_one():\n    assert False\n", "passed=0 failed=1"),
        ("# nothing\n", "passed=0 failed=1"),
        (None, "passed=0 failed=1"),
    ],
)
def test_a_checkout_is_run_and_nothing_is_red(source: str | None, told: str, tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "conftest.py").write_text("from tests.support import nothing_of_ours\n")
    if source is not None:
        (folder / "test_avatar.py").write_text(source)
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "test_avatar.py")], cwd=ROOT, capture_output=True, text=True
    )
    assert told in run.stdout, run.stdout + run.stderr
