"""The assistant that follows a script: intents by words, slots, answers, actions. It needs no network, no model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.assistants.base import CallFacts, Message, Piece, Reply, Tool, ToolUse
from orchestrator.assistants.script import Action, Answer, Script
from orchestrator.assistants.slots import take

_MOST_TRIES = 2
_WORD = re.compile(r"[a-z0-9'*]+")


@dataclass(frozen=True)
class _State:
    """Where a dialogue is: which answer asks for what, and what was found."""

    answer: Answer | None = None
    missing: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    tries: int = 0
    misses: int = 0


@dataclass(frozen=True)
class _Step:
    text: str
    state: _State
    action: Action | None = None


class ScriptedDialogue:
    """One call's."""

    tokens = 0

    def __init__(self, script: Script, call: CallFacts) -> None:
        self._script, self._call = script, call
        self._state = _State()

    @property
    def greeting(self) -> str:
        """As the script has it."""
        return self._script.greeting

    @property
    def language(self) -> str:
        """As the script has it."""
        return self._script.language

    def reply(self, history: Sequence[Message], text: str) -> Reply:
        """What the script says to this."""
        step = self.step(text)

        def accept() -> None:
            self._state = step.state

        return Reply(self._pieces(step), accept)

    async def close(self) -> None:
        """Nothing is held."""

    def step(self, text: str) -> _Step:
        """Where the script goes from here."""
        state, found = self._state, self._find(text)
        if state.missing and not (found and found.always):
            return self._fill(state, text)
        if found is None:
            lines = self._script.fallback
            line = lines[min(state.misses, len(lines) - 1)]
            return _Step(line, _State(values=state.values, misses=state.misses + 1))
        return self._begin(found, state.values)

    def _begin(self, answer: Answer, values: Mapping[str, str]) -> _Step:
        if answer.do is not None and answer.do.tool == "transfer":
            to = answer.do.arguments.get("to") or self._call.transfer_to
            if not to:
                return _Step(answer.otherwise or "I am sorry, nobody can be reached.", _State(values=values))
        state = _State(answer, tuple(answer.ask), values)
        if not state.missing:
            return self._end(state, answer.say)
        return _Step(f"{answer.say} {self._script.slots[state.missing[0]].ask}".strip(), state)

    def _fill(self, state: _State, text: str) -> _Step:
        name, *rest = state.missing
        slot = self._script.slots[name]
        value = take(slot.take, text, slot.least)
        if value is None:
            if state.tries + 1 >= _MOST_TRIES:
                return _Step(self._script.fallback[-1], _State(values=state.values))
            return _Step(slot.again or slot.ask, replace(state, tries=state.tries + 1))
        filled = replace(state, missing=tuple(rest), values={**state.values, name: value}, tries=0)
        if rest:
            return _Step(self._script.slots[rest[0]].ask, filled)
        return self._end(filled, "")

    def _end(self, state: _State, before: str) -> _Step:
        answer = state.answer
        assert answer is not None
        text = f"{before} {answer.then}".strip()
        for name, value in state.values.items():
            shown = " ".join(value) if value.isdigit() else value
            text = text.replace("{" + name + "}", shown)
        return _Step(text, _State(values=state.values), answer.do)

    def _find(self, text: str) -> Answer | None:
        """The answer whose line has most of its words in the text, the first one among equals."""
        if text.isdigit():
            keys = next((each for each in self._script.answers if each.keys == text), None)
            if keys is not None:
                return keys
        words = _WORD.findall(text.lower().replace("’", "'"))
        best, most = None, 0
        for answer in self._script.answers:
            for line in answer.when:
                wanted = _WORD.findall(line.lower())
                if len(wanted) > most and all(any(_fits(word, each) for word in words) for each in wanted):
                    best, most = answer, len(wanted)
        return best

    async def _pieces(self, step: _Step) -> AsyncGenerator[Piece, None]:
        if step.text:
            yield step.text
        if step.action is not None:
            arguments = dict(step.action.arguments)
            if step.action.tool == "transfer":
                arguments.setdefault("to", self._call.transfer_to)
            result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            yield ToolUse(step.action.tool, arguments, result)


def _fits(word: str, wanted: str) -> bool:
    return word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted


class ScriptedAssistant:
    """Serves every call from one script."""

    name = "scripted"

    def __init__(self, script: Script) -> None:
        self._script = script

    def dialogue(self, call: CallFacts, tools: Sequence[Tool]) -> ScriptedDialogue:
        """See :class:`orchestrator.assistants.base.Assistant`; a script names its tools itself."""
        return ScriptedDialogue(self._script, call)

    async def close(self) -> None:
        """Nothing is held."""
