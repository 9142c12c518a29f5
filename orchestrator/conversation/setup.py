"""The assistants that settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from orchestrator.assistants.base import Assistant
from orchestrator.assistants.script import DEFAULT, read_script
from orchestrator.assistants.scripted import ScriptedAssistant


class AssistantSettings(Protocol):
    """What is asked of the settings."""

    @property
    def assistant(self) -> str: ...
    @property
    def assistant_script(self) -> Path | None: ...


def assistants_of(settings: AssistantSettings) -> dict[str, Assistant]:
    """By name: those that have what they need. Raises :class:`AssistantError`."""
    return {"scripted": ScriptedAssistant(read_script(settings.assistant_script or DEFAULT))}
