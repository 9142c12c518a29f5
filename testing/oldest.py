"""The oldest of every dependency that pyproject.toml allows, as constraints for pip.

.venv/bin/python -m testing.oldest orchestrator inference > constraints.txt
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def oldest(extras: list[str]) -> list[str]:
    """``name==version`` for each requirement of the project and of these extras; raises ``KeyError``."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(r for extra in extras for r in project["optional-dependencies"][extra]),
    ]
    found = set()
    for requirement in wanted:
        floor = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*(?:>=|==)\s*([\w.]+)", requirement)
        if floor is None:
            raise ValueError(f"{requirement!r} names no oldest version: give it one with >=")
        found.add(f"{floor[1]}=={floor[2]}")
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(oldest(sys.argv[1:])))
