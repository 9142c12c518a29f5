"""A script as it is written: YAML, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestrator.assistants.base import AssistantError
from orchestrator.assistants.slots import Kind

DEFAULT = Path(__file__).with_name("default_script.yaml")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Slot(_Strict):
    """Something to ask for. ``again`` is said where the answer has none."""

    ask: str
    again: str = ""
    take: Kind = "words"
    least: int = Field(1, ge=1, le=20)


class Action(_Strict):
    """Something to do after what is said."""

    tool: Literal["hang_up", "transfer", "press_keys", "show_avatar"]
    arguments: dict[str, str] = {}

    @model_validator(mode="after")
    def _check(self) -> Action:
        needed = {"press_keys": "keys", "show_avatar": "avatar"}.get(self.tool)
        if needed and not self.arguments.get(needed):
            raise ValueError(f"{self.tool} needs arguments: {{{needed}: ...}}")
        return self


class Answer(_Strict):
    """``when``: it is given where one of these lines has all of its words in what the caller said (``*`` stands for
    any end of a word); ``keys``: or the caller pressed these.

    ``say`` comes first, then each slot of ``ask``, then ``then``, then ``do``. ``otherwise`` is said instead of all
    of it where a transfer is asked for and nobody can be reached. ``always``: also while a slot is asked for.
    """

    name: str
    when: list[str] = []
    keys: str = ""
    say: str = ""
    ask: list[str] = []
    then: str = ""
    do: Action | None = None
    otherwise: str = ""
    always: bool = False


class Script(_Strict):
    """A whole one; ``fallback`` is said where no answer fits, the last line again and again. ``language``: of its
    texts, "" is the call's."""

    language: str = ""
    greeting: str = ""
    answers: list[Answer]
    slots: dict[str, Slot] = {}
    fallback: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Script:
        for answer in self.answers:
            for slot in answer.ask:
                if slot not in self.slots:
                    raise ValueError(
                        f"answer '{answer.name}' asks for '{slot}', which is not among the slots"
                    )
        return self


def read_script(path: Path) -> Script:
    """The script in a file. Raises :class:`AssistantError` with one sentence."""
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise AssistantError(f"the script {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f" (line {line + 1})" if line is not None else ""
        raise AssistantError(f"the script {path} is not YAML{where}") from None
    try:
        return Script.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise AssistantError(f"the script {path} is wrong at {place or 'its top'}: {first['msg']}") from None
