"""Portraits that ship with Visavis; they show nobody real (``docs/portrait.md``)."""

from pathlib import Path

DEFAULT = Path(__file__).with_name("default.png")
"""The portrait used where none is named: 704 x 704, RGB."""
