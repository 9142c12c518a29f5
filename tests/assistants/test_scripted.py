"""The scripted assistant: what it says to what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.assistants.base import AssistantError, CallFacts, ToolUse
from orchestrator.assistants.script import DEFAULT, read_script
from orchestrator.assistants.scripted import ScriptedAssistant, ScriptedDialogue
from orchestrator.assistants.slots import digits_in, name_in, take


def dialogue(transfer_to: str = "") -> ScriptedDialogue:
    return ScriptedAssistant(read_script(DEFAULT)).dialogue(CallFacts("a", transfer_to=transfer_to), ())


async def answer(talk: ScriptedDialogue, text: str) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    reply = talk.reply((), text)
    pieces = [piece async for piece in reply.pieces]
    reply.accept()
    tools = [(piece.name, piece.arguments) for piece in pieces if isinstance(piece, ToolUse)]
    return " ".join(piece for piece in pieces if isinstance(piece, str)), tools


def test_it_says_what_it_is() -> None:
    assert "script" in dialogue().greeting


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("When are you open?", "nine to six"),
        ("What can you do?", "few questions"),
        ("Where are you?", "town hall"),
        ("Are you human?", "script"),
        ("Blue cheese.", "did not understand"),
        ("0", "nobody here"),
    ],
)
async def test_answers_by_words_and_keys(text: str, part: str) -> None:
    assert part in (await answer(dialogue(), text))[0]


async def test_a_name_and_a_number_are_taken() -> None:
    talk = dialogue()
    assert "name?" in (await answer(talk, "Please call me back."))[0]
    assert "number" in (await answer(talk, "My name is anna smith."))[0]
    assert "digit by digit" in (await answer(talk, "I don't know."))[0]
    said, _ = await answer(talk, "0 7 9, double five")
    assert "Anna Smith" in said and "0 7 9 5 5" in said
    assert "nine to six" in (await answer(talk, "When are you open?"))[0]


async def test_a_reply_that_is_not_accepted_changes_nothing() -> None:
    talk = dialogue()
    await answer(talk, "Please call me back.")
    dropped = talk.reply((), "Anna")
    assert ["number" in piece async for piece in dropped.pieces if isinstance(piece, str)] == [True]
    assert "number" in (await answer(talk, "Anna Smith"))[0]
    assert "Anna Smith" in (await answer(talk, "0 7 9 1"))[0]


async def test_it_transfers_where_there_is_somebody_and_hangs_up() -> None:
    talk = dialogue("sip:help@example.com")
    said, tools = await answer(talk, "I want to talk to a human.")
    assert "connect" in said and tools == [("transfer", {"to": "sip:help@example.com"})]
    said, tools = await answer(talk, "Goodbye.")
    assert "Goodbye" in said and tools == [("hang_up", {})]


async def test_what_is_not_understood_twice_is_told_a_way_on() -> None:
    talk = dialogue()
    await answer(talk, "Blah.")
    assert "English only" in (await answer(talk, "Blah."))[0]


def test_slots() -> None:
    assert digits_in("oh seven nine, double five, triple one") == "07955111"
    assert name_in("Hi, I'm Anna.") == "Anna" and name_in("I am calling about my broken card") is None
    assert take("yes", "No, don't.") == "no" and take("yes", "Yeah sure.") == "yes"
    assert take("digits", "one", 4) is None and take("words", " x ") == "x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("answers: [", "is not YAML"),
        ("answers: []", "fallback"),
        ("answers: [{name: a, ask: [b]}]\nfallback: [x]", "asks for 'b'"),
        ("answers: [{name: a, words: b}]\nfallback: [x]", "answers.0.words"),
        ("answers: [{name: a, do: {tool: press_keys}}]\nfallback: [x]", "press_keys needs arguments"),
        ("- 1", "wrong at its top"),
    ],
)
def test_a_wrong_script_is_told_in_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(content)
    with pytest.raises(AssistantError, match=message):
        read_script(path)
    with pytest.raises(AssistantError, match="cannot be read"):
        read_script(tmp_path / "none.yaml")


async def test_the_script_of_the_docs_does_what_they_say(tmp_path: Path) -> None:
    page = Path(__file__).parents[2].joinpath("docs/conversation.md").read_text()
    path = tmp_path / "desk.yaml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    assistant = ScriptedAssistant(read_script(path))
    talk = assistant.dialogue(CallFacts("a", transfer_to="sip:help@example.com"), ())
    assert await answer(talk, "When are you opening?") == ("We are open from nine to six.", [])
    assert (await answer(talk, "1"))[0] == "What is your name?"
    assert (await answer(talk, "Anna."))[0] == "Which number?"
    assert (await answer(talk, "4711"))[0] == "Thank you, Anna. We will call 4 7 1 1."
    assert await answer(talk, "0") == ("One moment.", [("transfer", {"to": "sip:help@example.com"})])
    alone = assistant.dialogue(CallFacts("a"), ())
    assert await answer(alone, "A human, please.") == ("Nobody is there.", [])
    assert (await answer(alone, "Qwerty."))[0] == "I did not understand that."


@pytest.mark.parametrize(
    "action", ['press_keys, arguments: {keys: "12#"}', "show_avatar, arguments: {avatar: anna}"]
)
def test_an_action_is_written_as_the_docs_say(tmp_path: Path, action: str) -> None:
    assert action in Path(__file__).parents[2].joinpath("docs/conversation.md").read_text()
    path = tmp_path / "desk.yaml"
    path.write_text(f"answers: [{{name: a, do: {{tool: {action}}}}}]\nfallback: [x]")
    assert len(read_script(path).answers[0].do.arguments) == 1  # type: ignore[union-attr]
