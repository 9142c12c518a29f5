"""Commands of README and docs: shell that parses, and targets, modules and files that exist."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *(?:\d+\. )?```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
IN_AN_IMAGE = {"visavis.deletion_cost"}
"""Modules that a page shows as they are called inside a container, by the image's own Python."""

NO_FILES = {"visavis/orchestrator", "visavis/inference", "deploy/monitoring/grafana/password"}
"""Names of images, and a file that the reader makes."""

pages = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def blocks(page: Path) -> list[str]:
    """The page's shell blocks."""
    return [body for language, body in FENCE.findall(page.read_text()) if language == "sh"]


def code(page: Path) -> str:
    """All that stands as code on a page, blocks and backticks; comments that tools read are left out."""
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    inline = re.findall(r"`([^`]+)`", FENCE.sub("", text))
    return "\n".join(
        [*(body for _, body in FENCE.findall(text)), *(" ".join(each.split()) for each in inline)]
    )


@pages
def test_every_block_says_what_it_is(page: Path) -> None:
    known = {"sh", "text", "python", "toml", "json", "yaml"}
    assert {language for language, _ in FENCE.findall(page.read_text())} <= known


@pytest.mark.process
def test_shell_parses() -> None:
    shell = [block for page in PAGES for block in blocks(page)]
    assert len(shell) >= 15
    for block in shell:
        run = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert run.returncode == 0 and not run.stderr, block + run.stderr


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|&& |; )make ([a-z][a-z0-9-]*)", code(page), re.MULTILINE)) - targets == set()


@pages
def test_modules_exist_and_are_called_as_they_can_be_pasted(page: Path) -> None:
    for before, module in re.findall(r"(\S*)python3? -m ([\w.]+)", code(page)):
        assert importlib.util.find_spec(module) is not None, module
        assert re.search(r"\.venv(-[a-z]+)?/bin/$", before) or module in IN_AN_IMAGE, module
    benches = re.findall(r"(?:^|\s)(?:bench|tests\.support)\.[a-z_.]*[a-z_]", code(page), re.MULTILINE)
    for module in map(str.strip, benches):
        assert importlib.util.find_spec(module) is not None, module


@pages
def test_programs_of_the_environment_are_called_by_their_path(page: Path) -> None:
    """Nobody says ``. .venv/bin/activate``, and Debian has no ``python``."""
    for block in blocks(page):
        assert not re.findall(r"(?:^|[\s;&])(?:python|visavis-\w+) ", block, re.MULTILINE), block


@pages
def test_nothing_is_installed_from_an_index_that_has_it_not(page: Path) -> None:
    assert not re.findall(r"pip install (?:\S+ )*'?visavis", page.read_text())


@pages
def test_files_exist(page: Path) -> None:
    """What begins like a file of the repository is one, in blocks, in backticks and in links.

    Not looked at: patterns (``deploy/requirements-*.txt``) and names of images (``visavis/inference:0.1.0``).
    """
    folders = "bench|deploy|docs|examples|inference_server|orchestrator|protos|testing|tests|visavis"
    named = {
        match[1].rstrip(".-/")
        for match in re.finditer(rf"(?<![\w./-])((?:{folders})/[\w./-]*+)(?![*:<])", code(page))
    }
    links = set(re.findall(r"\]\(([^):#]+)[#)]", page.read_text()))
    missing = {name for name in named if not (ROOT / name).exists()}
    missing |= {link for link in links if not (page.parent / link).exists()}
    assert missing - NO_FILES == set()
