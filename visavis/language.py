"""Language tags (BCP 47), as people and phones write them: ``en-GB``, ``pt_BR``, ``DE``."""

from __future__ import annotations


def primary_language(tag: str) -> str:
    """The first subtag in lower case: ``pt`` of ``pt_BR``."""
    return tag.lower().replace("_", "-").partition("-")[0]


_OTHER_NAMES = {"cmn": "zh", "nb": "no"}


def service_language(tag: str) -> str:
    """What services of others call a language: two letters (ISO 639-1) where it has them, without a region, of
    which each service knows but some."""
    primary = primary_language(tag)
    return _OTHER_NAMES.get(primary, primary)
