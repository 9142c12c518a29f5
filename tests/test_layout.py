"""Who may import whom: the halves stay apart."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


PACKAGES = ("visavis", "orchestrator", "inference_server", "testing")


def imports(path: Path) -> set[str]:
    """Every module that a module imports, absolute, also for types only."""
    package = path.relative_to(ROOT).parent.parts
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*above, *([node.module] if node.module else [])])
            folder = ROOT.joinpath(*source.split("."))
            out |= {
                f"{source}.{name.name}" if is_module(folder / name.name) else source for name in node.names
            }
    return out


def is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@functools.cache
def imported(folder: str) -> set[tuple[Path, str]]:
    """Every import in a folder's modules."""
    return {(path, name) for path in (ROOT / folder).rglob("*.py") for name in imports(path)}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def graph() -> dict[str, set[str]]:
    """Which of our modules imports which."""
    paths = {module_of(path): path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")}
    return {name: (imports(path) & paths.keys()) - {name} for name, path in paths.items()}


def reached(start: str) -> set[str]:
    """The modules that one needs, directly or not; itself only where it is in a circle."""
    seen: set[str] = set()
    left = list(graph()[start])
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += graph()[name]
    return seen


def test_there_is_no_import_circle() -> None:
    needs = {name: reached(name) for name in graph()}
    circles = {frozenset(other for other in needs[name] if name in needs[other]) for name in needs}
    assert [sorted(circle) for circle in circles if circle] == []


FLOORS = {
    "rtp": "media sip worker calls gateways api avatar speech conversation archive app config",
    "sip": "media worker calls gateways api avatar speech conversation app config",
    "media": "sip worker calls gateways api avatar speech conversation app config",
    "speech": "media sip rtp worker calls gateways api avatar conversation app config",
    "listening": "media sip rtp worker calls gateways api avatar speech conversation assistants app config",
    "assistants": "media sip rtp worker calls gateways api avatar listening conversation app config",
    "calls": "gateways sip api archive app",
    "conversation": "gateways sip media archive app",
    "archive": "media sip rtp gateways api avatar speech listening assistants app config",
    "worker": "sip calls gateways api avatar speech conversation archive recording app config",
}
"""Folders of the orchestrator, and what none of their modules may import."""


@pytest.mark.parametrize("folder", FLOORS)
def test_no_import_runs_up_a_floor(folder: str) -> None:
    above = {f"orchestrator.{name}" for name in FLOORS[folder].split()}
    for path, name in imported(f"orchestrator/{folder}"):
        assert ".".join(name.split(".")[:2]) not in above, (path, name)


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
        assert not loaded & {"av", "fastapi", "dns", "soxr", "orchestrator"}


@pytest.mark.process
def test_a_pool_over_http_loads_no_grpc() -> None:
    code = "import sys; from visavis import HTTPAvatarProvider, HttpServerClient, ServerPool; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"grpc", "google.protobuf", "visavis.avatar.v1.avatar_pb2"}


def imported_at_run_time(path: Path) -> set[str]:
    """The modules of the library that a module imports, be it inside a function; not those of types alone."""
    found = set[str]()
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        nodes += ast.iter_child_nodes(node)
    return found


def test_no_modules_of_the_library_import_each_other_in_a_circle() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in (ROOT / "visavis").rglob("*.py")
        if path.name != "__init__.py"
    }
    sorter = graphlib.TopologicalSorter(
        {name: imported_at_run_time(path) & modules.keys() for name, path in modules.items()}
    )
    sorter.prepare()  # raises CycleError with the circle


def test_nothing_in_the_orchestrator_names_an_engine() -> None:
    names = {name for _, name in imported("orchestrator")}
    assert not {n for n in names if n.split(".")[0] in ("torch", "cv2", "inference_server")}


def test_only_gateways_know_sip() -> None:
    """Calls, records and the API are the same whichever way a call comes by."""
    within = [ROOT / "orchestrator" / name for name in ("sip", "gateways")]
    for path, name in imported("orchestrator"):
        if name.startswith("orchestrator.sip"):
            assert any(path.is_relative_to(folder) for folder in within), (path, name)


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


SHARED_NAMES = {"Avatar", "Body", "Frame", "Mouth"}
"""Classes of the library whose name another package uses too."""


def test_a_class_name_of_the_library_and_of_the_avatars_stands_for_one_thing() -> None:
    places: dict[str, list[Path]] = {}
    for folder in ("visavis", "orchestrator", "inference_server"):
        for path in (ROOT / folder).rglob("*.py"):
            if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                for node in ast.parse(path.read_text()).body:
                    if isinstance(node, ast.ClassDef):
                        places.setdefault(node.name, []).append(path.relative_to(ROOT))
    ours = (Path("visavis"), Path("orchestrator/avatar"))
    twice = {
        name: found
        for name, found in places.items()
        if len(found) > 1 and any(path.is_relative_to(folder) for path in found for folder in ours)
    }
    assert {name: found for name, found in twice.items() if name not in SHARED_NAMES} == {}


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    for extra, wanted in {"Base": project["dependencies"], **project["optional-dependencies"]}.items():
        (section,) = re.findall(rf"^## `?{extra}\b.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        names = {re.split(r"[\[<>=; ]", each)[0] for each in wanted}
        assert {name for name in names if f"`{name}`" not in section} == set(), extra
