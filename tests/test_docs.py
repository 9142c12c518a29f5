"""Commands of README and docs: shell that parses, and targets, modules and files that exist."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *(?:\d+\. )?```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
IN_AN_IMAGE = {"visavis.deletion_cost"}
"""Modules that a page shows as they are called inside a container, by the image's own Python."""

MARK = re.compile(
    r"^ *<!-- (needs|run by): ([^\n]+) -->\n *(?:\d+\. )?```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL
)
"""What stands before every shell block: what it needs to run, or the test that runs it as it stands there."""

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
    known = {"sh", "text", "python", "toml", "json", "yaml", "js", "nginx"}
    assert {language for language, _ in FENCE.findall(page.read_text())} <= known


@pytest.mark.process
def test_shell_parses() -> None:
    shell = [block for page in PAGES for block in blocks(page)]
    assert len(shell) >= 15
    for block in shell:
        run = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert run.returncode == 0 and not run.stderr, block + run.stderr


@pages
def test_every_shell_block_is_run_or_says_what_it_needs(page: Path) -> None:
    marked = [(kind, what) for kind, what, _ in MARK.findall(page.read_text())]
    assert len(marked) == len(blocks(page)), (
        "write <!-- needs: ... --> or <!-- run by: TEST --> before each ```sh"
    )
    assert [what for kind, what in marked if kind == "run by" and not (ROOT / what).is_file()] == []


OWN = [
    block
    for page in PAGES
    for _, what, block in MARK.findall(page.read_text())
    if what == Path(__file__).relative_to(ROOT).as_posix()
]


@pytest.mark.process
@pytest.mark.parametrize("block", OWN, ids=range(len(OWN)))
def test_what_can_run_anywhere_runs(block: str, tmp_path: Path) -> None:
    """In a home and a folder of its own, with this environment as the checkout's."""
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "pip"):
        command = f'#!/bin/sh\nexec {sys.executable} {"-m pip " if name == "pip" else ""}"$@"\n'
        (folder / ".venv" / "bin" / name).write_text(command)
        (folder / ".venv" / "bin" / name).chmod(0o755)
    for kept in (".local/share/visavis", ".cache/visavis", ".cache/other"):
        (tmp_path / kept).mkdir(parents=True)
    own = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-ec", block], cwd=folder, env=own, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    if "rm -rf" in block:
        assert [path.name for path in (tmp_path / ".cache").iterdir()] == ["other"]
        assert not (tmp_path / ".local/share/visavis").exists()
    else:
        assert re.search(r"^numpy\t\d", done.stdout, re.MULTILINE), done.stdout


def test_the_index_names_every_page_and_links_lead_to_headings() -> None:
    index = (ROOT / "docs/README.md").read_text()
    there = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert there - set(re.findall(r"\]\(([\w.-]+\.md)\)", index)) == set()
    broken = []
    for page in PAGES:
        for name, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", page.read_text()):
            if name and not name.endswith(".md"):
                continue
            target = (page.parent / name if name else page).read_text()
            headings = re.findall(r"^#+ (.+)$", target, re.MULTILINE)
            # as GitHub makes them: lower case, blanks to dashes, nothing but letters, digits, dashes, underscores
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            broken += [] if anchor in anchors else [f"{page.name}: {name}#{anchor}"]
    assert broken == []


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
        assert not re.findall(r"(?:^|[\s;&(])(?:python|visavis-\w+)[ )]", block, re.MULTILINE), block


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


def installed_with(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Names of every distribution that installing this one brings."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    found = {canonicalize_name(name)}
    for line in metadata.requires(name) or []:
        wanted = Requirement(line)
        if any(wanted.marker is None or wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            found |= installed_with(wanted.name, frozenset(wanted.extras), seen)
    return found


def test_the_licence_of_every_package_of_the_services_is_told() -> None:
    brought = installed_with("visavis", frozenset({"orchestrator", "inference"}), set()) - {"visavis"}
    for which in ("orchestrator", "inference"):
        pins = (ROOT / f"deploy/requirements-{which}.txt").read_text().splitlines()
        brought |= {canonicalize_name(pin.partition("==")[0]) for pin in pins if "==" in pin}
    named = re.findall(r"`([\w.-]+)`", (ROOT / "docs/licences.md").read_text())
    assert len(brought) > 40 and brought - {canonicalize_name(name) for name in named} == set()
