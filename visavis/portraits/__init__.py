"""Portraits that ship with Visavis; they show nobody real (``docs/portrait.md``)."""

from pathlib import Path

_FOLDER = Path(__file__).parent
CAST = {path.stem: path for path in sorted(_FOLDER.glob("*.png"))}
"""The built-in portraits by name."""
DEFAULT = CAST["lumi"]
"""The portrait used where none is named: RGB, square."""
