"""What is told where a program starts without the packages that it needs."""

from __future__ import annotations

_OURS = ("visavis", "inference_server", "orchestrator")


def missing_extra(error: ModuleNotFoundError, program: str, extra: str) -> str:
    """One sentence with the extra to install. Raises ``error`` again where the missing module is one of ours."""
    name = (error.name or "").partition(".")[0]
    if not name or name in _OURS:
        raise error
    return f"{program} needs {name}, which is not here: pip install '.[{extra}]' in a checkout of Visavis brings it"
