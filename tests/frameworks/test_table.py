"""docs/frameworks.md: versions are those installed and tested, every yes has a test; examples are short."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "frameworks.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
VERSIONS = dict(re.findall(r"\| (roomkit|livekit-agents|pipecat-ai) (\d[\d.]+) \|", PAGE))


def test_every_framework_is_tested_with_the_version_of_the_page() -> None:
    assert VERSIONS.keys() == {"roomkit", "livekit-agents", "pipecat-ai"}
    for package, version in VERSIONS.items():
        assert re.search(rf"\b{package}=={re.escape(version)}(?!\S)", MAKEFILE), package
        assert f"make test-{package.partition('-')[0]}" in PAGE
    targets = re.search(r"^test-all: (.*?) ##", MAKEFILE, re.MULTILINE)
    assert targets
    assert {"test-roomkit", "test-livekit", "test-pipecat"} <= set(targets[1].split())


def test_the_versions_of_this_environment_are_those_of_the_page() -> None:
    """In the environment of a framework; in others there is none."""
    for package, version in VERSIONS.items():
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        assert installed == version, f"docs/frameworks.md says {package} {version}, here is {installed}"
        (row,) = re.findall(rf"\| {package} [\d.]+ \| (.*) \|", PAGE)
        assert f"{sys.version_info[0]}.{sys.version_info[1]}" in row.split(", ")


def test_every_yes_of_the_page_has_its_test() -> None:
    found = re.findall(r"\[yes\]\(\.\./(tests/[\w/]+\.py)#(\w+)\)", PAGE)
    assert len(found) == PAGE.count("[yes]") >= 20
    for path, name in found:
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, functions)}, (path, name)


@pytest.mark.parametrize("name", ["livekit_avatar", "pipecat_avatar"])
def test_the_example_of_an_adapter_has_at_most_forty_lines(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= 40
