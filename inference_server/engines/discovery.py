"""Engines by name: the entry points ``visavis.engines``, so that anybody's package can bring one.

A name with a colon is taken as ``module:attribute``, for an engine that is not packaged.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from inference_server.engines.base import EngineError, EngineFactory

GROUP = "visavis.engines"


def engine_names() -> list[str]:
    """Names of all installed engines."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def engine_factory(name: str) -> EngineFactory:
    """The callable that makes the engine. Raises :class:`EngineError` with one clear sentence."""
    if ":" in name:
        found = [EntryPoint(name, name, GROUP)]
    else:
        found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        known = ", ".join(engine_names()) or "none: install the project with pip install -e ."
        raise EngineError(f"There is no engine {name!r}; installed are {known}.")
    try:
        factory: EngineFactory = found[0].load()
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"Engine {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    return factory
