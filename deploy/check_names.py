"""Finds VISAVIS_* variables that are no settings, for the container that gets all of .env (``names.py``).

Each service gets from ``.env`` what ``FILE`` (``deploy/compose.settings.yml``) lists for it and no more, so a name
that is written wrong would go unseen.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

OTHERS = {"VISAVIS_CONFIG", "VISAVIS_CUDA_IMAGE", "VISAVIS_TOKEN", "VISAVIS_TLS_CA"}
"""Of both services, of an image, and of clients."""


def known(text: str) -> set[str]:
    """The variables of a compose file that lists them without values."""
    return OTHERS | set(re.findall(r"^ +(VISAVIS_[A-Z0-9_]+):$", text, re.MULTILINE))


def problems(names: Iterable[str], settings: set[str]) -> list[str]:
    """One sentence for each name that is no setting."""
    out = []
    for name in sorted(set(names) - settings):
        near = difflib.get_close_matches(name, settings, 1, cutoff=0.8)
        hint = f"; is {near[0]} meant?" if near else ": .env.example lists them all."
        out.append(f"{name} is not a setting{hint}")
    return out
