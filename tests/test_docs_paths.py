"""Paths and names that the pages for contributors give are those of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = "|".join(
    [*sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name.isidentifier()), r"\.ci"]
)
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)(?:::\w+)?`")


def paths(text: str) -> set[str]:
    """Repository paths in backticks, without anchors."""
    return set(PATH.findall(text))


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/where.md", "CONTRIBUTING.md"])
def test_paths_exist(page: str) -> None:
    named = paths((ROOT / page).read_text())
    assert len(named) > 20
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_names_stand_in_the_file_that_decides() -> None:
    rows = re.findall(
        r"^\| (.*) \| (.*) \| (.*) \| (.*) \|$", (ROOT / "docs/where.md").read_text(), re.MULTILINE
    )
    checked = 0
    for what, files, names, _ in rows:
        text = "\n".join((ROOT / path).read_text() for path in paths(files))
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", text), (what, name)
            checked += 1
    assert checked > 25


def test_names_of_the_worked_paths_stand_in_their_files() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "docs/where.md").read_text())
    pairs = re.findall(rf"`((?:{FOLDERS})/[\w./]+\.py)` ?\(`(\w+)`\)", text)
    assert len(pairs) >= 4
    for path, name in pairs:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), (path, name)


def test_every_bench_is_named_with_its_command() -> None:
    """In a make target or on the page of figures."""
    told = (ROOT / "Makefile").read_text() + (ROOT / "docs/benchmarks.md").read_text()
    programs = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in sorted((ROOT / "bench").rglob("*.py"))
        if '\nif __name__ == "__main__":' in path.read_text() or path.name == "__main__.py"
    ]
    assert len(programs) > 20
    assert [name for name in programs if not re.search(rf"\b{re.escape(name)}(?![\w.]*\w)", told)] == []
