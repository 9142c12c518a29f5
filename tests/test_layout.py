"""Who may import whom: the halves stay apart."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def imported(folder: str) -> set[tuple[Path, str]]:
    """Every absolute import in a folder's modules."""
    out = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                out |= {(path, name.name) for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                out.add((path, node.module))
    return out


@pytest.mark.process
@pytest.mark.parametrize(
    "modules",
    [
        "orchestrator.app, orchestrator.__main__, orchestrator.avatar.owner, orchestrator.worker.worker",
        "visavis",
    ],
)
def test_the_orchestrator_and_the_library_load_no_engine(modules: str) -> None:
    code = f"import sys, {modules}; print(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    forbidden = {"torch", "cv2", "diffusers", "transformers", "inference_server"}
    assert not loaded & forbidden
    if modules == "visavis":
        assert not loaded & {"av", "fastapi", "aiosipua", "soxr", "orchestrator"}


def test_nothing_in_the_orchestrator_names_an_engine() -> None:
    names = {name for _, name in imported("orchestrator")}
    assert not {n for n in names if n.split(".")[0] in ("torch", "cv2", "inference_server")}


@pytest.mark.parametrize("folder", ["sip", "rtp", "media"])
def test_signalling_and_media_know_neither_avatar_nor_speech(folder: str) -> None:
    for path, name in imported(f"orchestrator/{folder}"):
        assert not name.startswith(("orchestrator.avatar", "orchestrator.speech")), (path, name)


def test_the_inference_server_knows_no_phone_call() -> None:
    for path, name in imported("inference_server"):
        assert not name.startswith("orchestrator"), (path, name)


@pytest.mark.parametrize("folder", ["orchestrator", "inference_server", "visavis"])
def test_what_is_installed_imports_nothing_of_a_checkout(folder: str) -> None:
    for path, name in imported(folder):
        assert name.split(".")[0] not in ("bench", "tests", "testing", "examples"), (path, name)


def test_what_tests_and_benches_share_imports_neither() -> None:
    for path, name in imported("testing"):
        assert name.split(".")[0] not in ("bench", "tests", "examples"), (path, name)


def test_only_the_api_knows_its_framework() -> None:
    for path, name in imported("orchestrator"):
        if name.split(".")[0] in ("fastapi", "starlette"):
            assert path.is_relative_to(ROOT / "orchestrator" / "api"), path


def test_only_the_sip_package_knows_its_library() -> None:
    for folder in ("orchestrator", "visavis", "inference_server", "examples", "bench", "testing"):
        for path, name in imported(folder):
            if name.split(".")[0] in ("aiosipua", "aiortp"):
                assert path.is_relative_to(ROOT / "orchestrator" / "sip"), path


def test_the_channel_overrides_one_private_hook_of_roomkit() -> None:
    tree = ast.parse((ROOT / "visavis" / "roomkit" / "channel.py").read_text())
    (channel,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = {node.name for node in channel.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    kept, used = set[str](), set[str]()
    for node in ast.walk(channel):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            (kept if isinstance(node.ctx, ast.Store) else used).add(node.attr)
    assert used - kept - methods == set()  # nothing private of RoomKit is read...
    hooks = {name for name in methods if name.startswith("_") and name != "__init__"} - used
    inherited = {node.func.attr for node in ast.walk(channel) if _of_super(node)}  # type: ignore[attr-defined]
    assert {name for name in hooks | inherited if name.startswith("_") and name != "__init__"} == {
        "_wrap_outbound"
    }  # ...and one hook is overridden


def _of_super(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "super"
    )


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    for extra, wanted in {"Base": project["dependencies"], **project["optional-dependencies"]}.items():
        (section,) = re.findall(rf"^## `?{extra}\b.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        names = {re.split(r"[\[<>=; ]", each)[0] for each in wanted}
        assert {name for name in names if f"`{name}`" not in section} == set(), extra
