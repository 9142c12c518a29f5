"""Tables of figures in pages: put there by the command that printed them, between two marks."""

from __future__ import annotations

import re
from pathlib import Path

END = "<!-- end -->"


def mark(command: str) -> str:
    """The line before a command's table."""
    return f"<!-- {command} -->"


def write_into(path: Path, command: str, table: str) -> None:
    """Put the table between the command's mark and the end mark after it; ends the process where there is none."""
    text = path.read_text()
    begin = mark(command)
    found = re.search(f"{re.escape(begin)}\n.*?{re.escape(END)}", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"{path} has no line {begin} with {END} after it")
    path.write_text(text.replace(found[0], f"{begin}\n{table}\n{END}"))
