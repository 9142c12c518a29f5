"""Programs that start without what they need say what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference_server.engines import base, discovery
from visavis.service.extras import missing_extra

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[2]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.modules.pop(sys.argv[2], None)
runpy.run_module(sys.argv[1], run_name="__main__")
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("program", "package", "extra"),
    [("inference_server", "cv2", "inference"), ("orchestrator", "av", "orchestrator")],
)
def test_a_program_without_its_extra_names_it(program: str, package: str, extra: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, program, package], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.strip().splitlines() == [run.stderr.strip()]
    assert f"needs {package}, which is not here: pip install '.[{extra}]'" in run.stderr


def test_a_module_of_ours_that_is_missing_is_a_mistake_of_ours() -> None:
    for name in ("visavis.nothing", None):
        with pytest.raises(ModuleNotFoundError):
            missing_extra(ModuleNotFoundError("no", name=name), "it", "x")


def test_an_engines_own_sentence_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy.py").write_text(
        "from inference_server.engines.base import EngineError\nraise EngineError('the engine needs oil')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(base.EngineError, match=r"^the engine needs oil$"):
        discovery.engine_factory("needy:Engine")


@pytest.mark.process
def test_an_example_without_arguments_says_how_it_is_called() -> None:
    run = subprocess.run(
        [sys.executable, "examples/http_client.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "python examples/http_client.py face.jpg" in run.stderr and "Traceback" not in run.stderr
