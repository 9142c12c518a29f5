"""Language tags (BCP 47), as people and phones write them: ``en-GB``, ``pt_BR``, ``DE``."""

from __future__ import annotations


def primary_language(tag: str) -> str:
    """The first subtag in lower case: ``pt`` of ``pt_BR``."""
    return tag.lower().replace("_", "-").partition("-")[0]
