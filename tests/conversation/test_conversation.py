"""A call's conversation between a fake ear, a fake media worker and assistants of all kinds."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from orchestrator.assistants.base import AssistantError, CallFacts, Message, Piece, Reply, Tool, ToolUse
from orchestrator.assistants.script import DEFAULT, read_script
from orchestrator.assistants.scripted import ScriptedAssistant
from orchestrator.calls.call import Call
from orchestrator.calls.events import EventBus
from orchestrator.calls.gateway import DialForbidden
from orchestrator.calls.portraits import AvatarCatalog
from orchestrator.conversation import conversations as conversations_module
from orchestrator.conversation.conversation import NO_LIMITS, Conversation
from orchestrator.conversation.conversations import Conversations, TooManyConversations
from orchestrator.conversation.limits import ConversationLimits
from orchestrator.conversation.memory import Memory
from orchestrator.conversation.reply import PendingReply
from orchestrator.conversation.sentences import GREETING, sentences_in
from orchestrator.conversation.tools import CallTools
from orchestrator.conversation.transcript import Transcript, TranscriptEntry
from orchestrator.listening.messages import SpeechBegan, SpeechOnset, SpeechPaused, Words
from orchestrator.listening.stt import SttSettings
from orchestrator.recording.tape import CallTape
from orchestrator.speech.base import PCM, SpeechError, VoiceByLanguage
from orchestrator.worker.messages import GiveWay, InterruptTurns, ShowAvatar, ShowState, StartTurn
from tests.support.calls import Peer, Sink, answered_call, report
from tests.support.waiting import until
from visavis import portraits
from visavis.service.breaker import ServiceState
from visavis.service.logs import JsonFormatter

RATE = 8000
LETTER_MS = 60


class Voice:
    """Speaks each letter for so long."""

    sample_rate = RATE

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        pcm = np.random.default_rng(0).integers(-3000, 3000, len(text) * LETTER_MS * 8)
        yield pcm.astype(np.int16)


class Phone(Peer):
    """Notes that it was hung up on."""

    def __init__(self) -> None:
        self.hung_up = ""

    def hang_up(self, reason: str) -> None:
        self.hung_up = reason


class Worker(Sink):
    """Keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)
        super().send(message)


class Ears:
    """An ear that hears what it is told."""

    words_s = 1.5

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.on_speech: Any = None
        self._pauses = 0

    def listen(self, call_id: str, on_speech: Any, language: str = "en") -> None:
        self.on_speech = on_speech

    service = None

    def understands(self, language: str) -> bool:
        return language == "en"

    def leave(self, call_id: str) -> None:
        self.on_speech = None

    def take(self, call_id: str, pause: int) -> None:
        self.taken.append(pause)

    def say(self, text: str, quiet_ms: int = 300) -> None:
        """A whole utterance, so long ago."""
        self._pauses += 1
        self.on_speech(SpeechBegan("c1", False))
        self.on_speech(SpeechPaused("c1", self._pauses, quiet_ms))
        self.on_speech(Words("c1", self._pauses, text, 1))


class Parrot:
    """A dialogue that answers as its test says, and remembers what it was told."""

    greeting = "Hello, caller."
    language = ""
    tokens = 0

    def __init__(self, *replies: Sequence[Piece | Exception]) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[list[Message], str]] = []
        self.accepted = 0
        self.closed = 0

    def reply(self, history: Sequence[Message], text: str) -> Reply:
        self.asked.append((list(history), text))
        return Reply(self._pieces(self.replies.pop(0)), self._accept)

    def _accept(self) -> None:
        self.accepted += 1

    async def _pieces(self, pieces: Sequence[Piece | Exception]) -> AsyncGenerator[Piece, None]:
        try:
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if isinstance(piece, ToolUse):
                    await piece.result
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


class Talk:
    """One call, whose media worker the test plays."""

    def __init__(
        self,
        *replies: Sequence[Piece | Exception],
        transfer_to: str = "",
        limits: ConversationLimits = NO_LIMITS,
        catalog: AvatarCatalog | None = None,
    ) -> None:
        self.sink, self.peer, self.bus = Worker(), Phone(), EventBus()
        self.call: Call = answered_call(VoiceByLanguage({"en": Voice}), self.bus, self.peer, self.sink)
        self.ears, self.dialogue = Ears(), Parrot(*replies)
        self.entries: list[TranscriptEntry] = []
        self.conversation = Conversation(
            self.call,
            cast(Any, self.ears),
            self.dialogue,
            CallTools(self.call, transfer_to, catalog=catalog),
            Transcript(self.entries.append),
            lambda: None,
            limits=limits,
        )
        self.call.attendant = self.conversation
        self.conversation.start()

    def sent(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.sink.sent if isinstance(message, kind)]

    async def turn(self, number: int) -> None:
        """Until a turn is handed to the media worker, which begins with it."""
        await until(lambda: any(each.turn_id == number for each in self.sent(StartTurn)))
        await until(lambda: self.call.turns[-1].words.text)
        report(self.call, "started", number)
        await asyncio.sleep(0.01)

    def over(self, number: int, heard_ms: float | None = None) -> None:
        turn = next(each for each in self.call.turns if each.turn_id == number)
        whole = heard_ms is None
        heard = turn.words.milliseconds if heard_ms is None else heard_ms
        report(self.call, "finished" if whole else "interrupted", number, heard)


async def test_a_question_is_answered_and_both_are_remembered() -> None:
    talk = Talk(["We are open ", "from nine to six."], ["You are welcome."])
    talk.ears.say("When are you open?")
    await talk.turn(1)
    assert talk.conversation.state == "speaking" and talk.dialogue.accepted == 1
    talk.over(1)
    talk.ears.say("Thank you.")
    await talk.turn(2)
    assert talk.dialogue.asked[1] == (
        [Message("caller", "When are you open?"), Message("assistant", "We are open from nine to six.")],
        "Thank you.",
    )
    assert [(each.speaker, each.text) for each in talk.entries] == [
        ("caller", "When are you open?"),
        ("assistant", "We are open from nine to six."),
        ("caller", "Thank you."),
    ]
    assert talk.ears.taken == [1, 2]
    talk.call.hang_up()
    talk.conversation.close()


async def test_a_voice_whose_start_is_told_late_may_be_interrupted_from_its_first_sound_on() -> None:
    talk = Talk(["We are open from nine to six."])
    talk.ears.say("When are you open?")
    await until(lambda: bool(talk.sent(StartTurn)) and bool(talk.call.turns[-1].words.text))
    report(talk.call, "started", 1, wait_ms=3_600_000, in_ms=20)
    assert talk.conversation.state == "thinking"
    await until(lambda: talk.conversation.state == "speaking")
    talk.conversation.close()


async def test_who_takes_a_call_over_while_the_caller_cuts_in_is_heard() -> None:
    talk = Talk(["We are open from nine to six."])
    talk.ears.say("When are you open?")
    await talk.turn(1)
    talk.ears.on_speech(SpeechOnset("c1", False))
    talk.conversation.close()
    assert [each.how for each in talk.sent(GiveWay)] == ["duck", "none"]


async def test_the_face_is_told_how_the_conversation_stands() -> None:
    talk = Talk(["We are open from nine to six."])
    talk.ears.say("When are you open?")
    await talk.turn(1)
    talk.over(1)
    await until(lambda: talk.conversation.state == "listening")
    talk.conversation.hold(True)
    talk.conversation.hold(True)
    talk.conversation.close()
    told = [message.state for message in talk.sent(ShowState)]
    assert told == ["listening", "thinking", "speaking", "listening", "idle", ""]


async def test_the_first_sentence_of_a_reply_is_foreseen_before_the_turn_is_over() -> None:
    talk, foreseen = Talk(["One. ", "Two is ", "more."], ["And."]), list[str]()
    talk.call.foresee = lambda sentence, language: foreseen.append(sentence)  # type: ignore[method-assign]
    talk.ears.say("Tell me about", quiet_ms=160)
    await until(lambda: foreseen)
    assert foreseen == ["One."] and not talk.call.turns
    talk.ears.say("Tell me about it.")
    await talk.turn(1)
    assert foreseen == ["One.", "And."]
    talk.conversation.close()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["It", " is", ".", " So."], [("It is.", 3)]),
        (["It is 3.", "14.", " So."], [("It is 3.", 1), ("It is 3.14.", 3)]),
        (["Dr.", " No is in."], [("Dr. No is in.", 2)]),
    ],
)
async def test_a_sentence_is_foreseen_before_what_follows_it_is_written(
    pieces: list[str], expected: list[tuple[str, int]]
) -> None:
    written, foreseen = 0, list[tuple[str, int]]()

    async def write() -> AsyncGenerator[Piece, None]:
        nonlocal written
        for piece in pieces:
            written += 1
            yield piece

    async def begin() -> Reply:
        return Reply(write())

    reply = PendingReply(1, "", begin, lambda sentence: foreseen.append((sentence, written)))
    while await reply.take() is not None:
        pass
    assert foreseen == expected


async def test_a_reply_that_is_cut_is_remembered_up_to_the_word() -> None:
    talk = Talk(["One two three four five six seven eight."], ["Yes?"])
    talk.ears.say("Count for me.")
    await talk.turn(1)
    talk.ears.say("No, stop it now.")
    assert [message.how for message in talk.sent(GiveWay)] == ["duck"] and talk.sent(InterruptTurns)
    talk.over(1, 17 * LETTER_MS)
    await talk.turn(2)
    history, text = talk.dialogue.asked[1]
    assert text == "No, stop it now."
    assert [each.speaker for each in talk.entries] == ["caller", "assistant", "caller"]
    assert [each.role for each in talk.conversation.memory.messages] == ["caller", "assistant", "caller"]
    assert [each.role for each in history] == ["caller", "assistant"]
    assert history[-1] in (
        Message("assistant", "One two three"),
        Message("assistant", "One two three four"),
    )
    assert [each.whole for each in talk.entries if each.speaker == "assistant"] == [False]
    talk.conversation.close()


@pytest.mark.parametrize("seed", range(100))
async def test_memory_after_a_cut_is_what_the_phone_got_within_a_word(seed: int) -> None:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdef", k=rng.randrange(1, 10))) for _ in range(rng.randrange(3, 30))]
    talk = Talk([" ".join(words) + "."])
    talk.ears.say("Tell me all.")
    await talk.turn(1)
    spoken = " ".join(words) + "."
    heard_ms = rng.random() * len(spoken) * LETTER_MS
    talk.over(1, heard_ms)
    got = len(spoken[: int(heard_ms / LETTER_MS)].split())
    remembered = len(talk.entries[-1].text.split()) if talk.entries[-1].speaker == "assistant" else 0
    assert abs(remembered - got) <= 1
    talk.conversation.close()


async def test_a_backchannel_lets_the_voice_go_on() -> None:
    talk = Talk(["One two three four five six seven eight."])
    talk.ears.say("Count for me.")
    await talk.turn(1)
    talk.ears.say("Mhm.")
    assert [message.how for message in talk.sent(GiveWay)] == ["duck", "none"]
    assert not talk.sent(InterruptTurns) and talk.conversation.state == "speaking"
    talk.conversation.close()


async def test_tools_are_used_once_the_words_before_them_were_said() -> None:
    loop = asyncio.get_running_loop()
    use = ToolUse("hang_up", {}, loop.create_future())
    talk = Talk(["Goodbye!", use])
    talk.ears.say("That is all.")
    await talk.turn(1)
    await asyncio.sleep(0.05)
    assert not talk.peer.hung_up
    talk.over(1)
    await until(lambda: bool(talk.peer.hung_up))
    assert await use.result == "the call is over"
    talk.conversation.close()


async def test_callers_are_sent_only_where_the_settings_say() -> None:
    loop = asyncio.get_running_loop()
    wrong = ToolUse("transfer", {"to": "sip:premium@example.com"}, loop.create_future())
    unknown = ToolUse("launch", {}, loop.create_future())
    talk = Talk([wrong, unknown, "I cannot do that."], transfer_to="sip:help@example.com")
    talk.ears.say("Connect me.")
    assert "cannot be sent there" in await wrong.result
    assert "no tool 'launch'" in await unknown.result
    await talk.turn(1)
    talk.conversation.close()


async def test_a_transfer_is_bound_by_the_dial_plan_too() -> None:
    class Bound(Phone):
        async def transfer(self, to: str) -> int:
            raise DialForbidden(f"'{to}' is not called: the dial plan has 'deny help@*'")

    call = answered_call(VoiceByLanguage({"en": Voice}), EventBus(), Bound(), Worker())
    result = await CallTools(call, "sip:help@example.com").use("transfer", {})
    assert "the dial plan has" in result and call.ended_at is None


async def test_an_assistant_shows_another_face(tmp_path: Path) -> None:
    catalog = AvatarCatalog(tmp_path, portraits.DEFAULT)
    assert "show_avatar" not in [each.name for each in CallTools(cast(Any, None), "", None, catalog).offered]
    anna = catalog.put("anna", portraits.DEFAULT.read_bytes())
    talk = Talk(catalog=catalog)
    tools = talk.conversation._tools
    offered = next(each for each in tools.offered if each.name == "show_avatar")
    assert offered.parameters["properties"]["avatar"]["enum"] == ["default", "anna"]
    assert await tools.use("show_avatar", {"avatar": "anna"}) == "shown"
    assert [each.portrait for each in talk.sent(ShowAvatar)] == [str(anna.path)]
    assert talk.call.portrait == anna
    assert await tools.use("show_avatar", {"avatar": "bob"}) == "there is no avatar 'bob'"
    talk.conversation.close()


@pytest.mark.parametrize(
    "limits", [ConversationLimits(turns=1), ConversationLimits(tokens=100), ConversationLimits(minutes=0.01)]
)
async def test_at_its_limit_a_caller_is_told_so_and_hung_up_on(limits: ConversationLimits) -> None:
    talk, said = Talk(["We are open."], ["Never said."], limits=limits), sentences_in("en")
    talk.ears.say("When are you open?")
    await talk.turn(1)
    talk.over(1)
    talk.dialogue.tokens = 100
    if limits.minutes:
        await until(lambda: len(talk.call.turns) == 2)
    else:
        talk.ears.say("And on Sundays?")
    await talk.turn(2)
    await until(lambda: talk.call.turns[-1].words.text == said.limit)
    assert not talk.peer.hung_up  # it is heard to its end
    talk.over(2)
    await until(lambda: bool(talk.peer.hung_up))
    assert talk.peer.hung_up.startswith("limit of ") and talk.dialogue.closed >= 1
    assert talk.dialogue.accepted == 1
    talk.conversation.close()


async def test_tools_of_a_reply_that_is_dropped_are_never_used() -> None:
    use = ToolUse("hang_up", {}, asyncio.get_running_loop().create_future())
    talk = Talk([use], ["Yes?"])
    talk.ears.say("That is", quiet_ms=160)
    await asyncio.sleep(0.05)
    talk.ears.say("That is not all.")
    await talk.turn(1)
    assert not talk.peer.hung_up and talk.dialogue.closed == 2
    talk.conversation.close()


@pytest.mark.parametrize("error", [AssistantError("the assistant answered 500"), ValueError("oops")])
async def test_an_assistant_that_fails_is_apologised_for(error: Exception) -> None:
    talk = Talk([error])
    talk.ears.say("When are you open?")
    await talk.turn(1)
    assert talk.call.turns[-1].words.text == sentences_in("en").sorry
    talk.over(1)
    assert talk.conversation.state == "listening"
    talk.conversation.close()


async def test_a_caller_who_is_not_heard_is_asked_again_and_then_told_the_keys() -> None:
    talk, said = Talk(), sentences_in("en")
    expected = [said.repeat, said.repeat, said.keys]
    for number, sentence in enumerate([*expected, ""], 1):
        talk.ears.on_speech(SpeechBegan("c1", False))
        talk.ears.on_speech(SpeechPaused("c1", number, 300))
        talk.ears.on_speech(Words("c1", number, "", 1, failed=True))
        if sentence:
            await talk.turn(number)
            assert talk.call.turns[-1].words.text == sentence
            talk.over(number)
    assert len(talk.call.turns) == 3 and talk.conversation.state == "listening"
    talk.conversation.close()


async def test_that_somebody_speaks_is_told_once_until_a_pause_is(monkeypatch: pytest.MonkeyPatch) -> None:
    talk, events = Talk(), list[str]()
    monkeypatch.setattr(talk.call, "tell", lambda event, details: events.append(event))
    for again in (False, True):  # a lull over the voice was no pause
        talk.ears.on_speech(SpeechBegan("c1", again))
    talk.ears.on_speech(SpeechPaused("c1", 1, 160))
    talk.ears.on_speech(SpeechBegan("c1", True))
    assert events == ["speech_started", "speech_stopped", "speech_started"]
    talk.conversation.close()


async def test_who_speaks_while_the_ear_dies_is_asked_again() -> None:
    talk = Talk(["We are open."])
    talk.ears.on_speech(SpeechBegan("c1", False))
    talk.conversation.deaf()
    await talk.turn(1)
    assert talk.call.turns[-1].words.text == sentences_in("en").repeat
    talk.conversation.close()


@pytest.mark.parametrize("keys", ["0791", "*0791", "07*91", "#", "07A1"])
async def test_keys_are_answered_and_not_written_down(keys: str) -> None:
    talk = Talk(["Thank you."])
    async with talk.bus.listen() as events:
        for digit in f"{keys}#":
            talk.call.on_dtmf(digit)
        await talk.turn(1)
        told = [events.get_nowait() for _ in range(len(events.queue))]
    assert talk.dialogue.asked[0][1] == keys
    assert [(each.text, each.keys) for each in talk.entries] == [("", len(keys))]
    assert [each.data["text"] for each in told if each.kind == "transcript"] == [""]
    talk.conversation.close()


async def test_what_is_said_while_a_recording_pauses_is_remembered_but_not_written_down() -> None:
    talk = Talk(["Go on."], ["Thank you."], ["Goodbye."])
    tape = talk.call.witness = CallTape(talk.call, print, lambda *key: None, print)
    for number, text in enumerate(["Hello.", "My card is four two.", "Bye."], 1):
        talk.ears.say(text)
        await talk.turn(number)
        talk.over(number)
        tape.paused = number == 1
        await asyncio.sleep(1.0 if number == 2 else 0)  # what began before the pause's end is left out, too
    talk.conversation.close()
    said = ["Hello.", "Go on.", "My card is four two.", "Thank you.", "Bye.", "Goodbye."]
    assert [each.text for each in talk.conversation.memory.messages] == said
    assert [each.text for each in talk.entries] == ["Hello.", "Go on.", "Bye.", "Goodbye."]


async def test_keys_that_are_read_back_and_cards_are_remembered_but_not_written_down() -> None:
    talk = Talk(["We call you on 0 7 9 1."], ["Thank you."])
    async with talk.bus.listen() as events:
        for digit in "0791#":
            talk.call.on_dtmf(digit)
        await talk.turn(1)
        talk.over(1)
        talk.ears.say("My card is 4242 4242 4242 4242.")
        await talk.turn(2)
        told = [events.get_nowait() for _ in range(len(events.queue))]
    assert talk.conversation.memory.messages[1:] == [
        Message("assistant", "We call you on 0 7 9 1."),
        Message("caller", "My card is 4242 4242 4242 4242."),
    ]
    assert [each.text for each in talk.entries] == ["", "We call you on [number].", "My card is [number]."]
    texts = " ".join(str(each.data.get("text")) for each in told)
    assert "0 7 9 1" not in texts and "4242" not in texts
    talk.conversation.close()


@pytest.mark.parametrize(
    ("keys", "pressed"),
    [
        ("12*#", True),
        ("", False),
        ("1\r\nDuration=9", False),
        ("1" * 65, False),
        ("12\n", False),
        (None, False),
    ],
)
async def test_only_keys_are_pressed_for_an_assistant(
    monkeypatch: pytest.MonkeyPatch, keys: object, pressed: bool
) -> None:
    sent: list[str] = []

    async def press(digits: str, milliseconds: int) -> None:
        sent.append(digits)

    talk = Talk()
    monkeypatch.setattr(talk.call, "press", press)
    told = await CallTools(talk.call, "").use("press_keys", {"keys": keys})
    assert sent == ([keys] if pressed else []) and told.startswith(
        "pressed" if pressed else "nothing was pressed"
    )
    talk.conversation.close()


async def test_no_word_and_no_key_of_a_conversation_is_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "orchestrator")
    use = ToolUse("weather", {"town": "Indigo"}, asyncio.get_running_loop().create_future())
    replies = [["Violet."], ["So ", use, "violet."], ["Violet."], ["Vio", AssistantError("it broke off")]]
    talk = Talk(*replies)
    talk.ears.say("Is it indigo?")
    await talk.turn(1)
    talk.ears.on_speech(SpeechBegan("c1", False))
    await until(lambda: bool(talk.sent(InterruptTurns)))
    talk.over(1, 100)
    talk.ears.say("Indigo weather, please.")
    for number in (2, 3):
        await talk.turn(number)
        talk.over(number)
    for digit in "4711*#":
        talk.call.on_dtmf(digit)
    await talk.turn(4)
    talk.over(4)
    talk.ears.say("And indigo?")
    await talk.turn(5)
    talk.over(5)
    await until(lambda: "assistant_failed" in caplog.text)
    talk.conversation.close()
    await asyncio.sleep(0.01)
    told = " ".join(JsonFormatter().format(each) for each in caplog.records).lower()
    assert all(kind in told for kind in ("transcript", "reply", "dtmf", "latency", "tool_used"))
    assert not [each for each in ("indigo", "viol", "4711", "'7'", '"7"') if each in told]


async def test_an_answer_to_keys_is_timed_from_the_last_one() -> None:
    talk = Talk(["Thank you."])
    async with talk.bus.listen() as events:
        before = time.time()
        for digit in "0791#":
            talk.call.on_dtmf(digit)
        await talk.turn(1)
        told = [events.get_nowait() for _ in range(len(events.queue))]
    (latency,) = (each.data for each in told if each.kind == "latency")
    assert 0 <= latency["end_of_turn_ms"] < 1000 and 0 <= latency["total_ms"] < 5000
    (entry,) = talk.entries
    assert before - 1 <= entry.began_at <= entry.ended_at <= time.time()
    talk.conversation.close()


async def test_keys_before_somebody_else_had_the_call_are_no_beginning_of_those_after_it() -> None:
    talk = Talk(["Thank you."])
    talk.call.on_dtmf("1")
    talk.conversation.hold(True)
    await asyncio.sleep(0.2)
    talk.conversation.hold(False)
    after = time.time()
    for digit in "2#":
        talk.call.on_dtmf(digit)
    await talk.turn(1)
    assert talk.dialogue.asked[0][1] == "2"
    assert talk.entries[0].began_at > after - 0.1
    talk.conversation.close()


async def test_keys_are_not_written_down_with_what_is_said_after_them() -> None:
    talk = Talk(["Thank you."], ["Hello."])
    for digit in "0791#":
        talk.call.on_dtmf(digit)
    await until(lambda: bool(talk.entries))
    talk.ears.say("Hello there.")  # before anything of the answer was heard
    await until(lambda: len(talk.entries) == 2)
    assert [(each.text, each.keys) for each in talk.entries] == [("", 4), ("Hello there.", 0)]
    assert talk.conversation.memory.messages == [Message("caller", "0791"), Message("caller", "Hello there.")]
    talk.conversation.close()


async def test_the_end_of_a_call_ends_everything() -> None:
    talk = Talk(["One two three four."])
    talk.ears.say("Count for me.")
    await talk.turn(1)
    talk.call._turns.close()
    talk.conversation.on_end()
    await asyncio.sleep(0.05)
    assert talk.ears.on_speech is None


class Parrots:
    """An assistant of parrots."""

    name = "scripted"

    def dialogue(self, call: CallFacts, tools: Sequence[Tool]) -> Parrot:
        return Parrot()

    async def close(self) -> None:
        pass


def conversations(**settings: Any) -> Conversations:
    taps = cast(Any, type("Taps", (), {"tap": lambda self, call_id, take: None})())
    return Conversations(taps, {"scripted": Parrots()}, "scripted", **settings)


async def test_one_caller_too_many_is_told_and_hung_up_on() -> None:
    all_ = conversations(most=0)
    peer, sink = Phone(), Worker()
    call = answered_call(VoiceByLanguage({"en": Voice}), EventBus(), peer, sink)
    all_.answered(call)
    await until(lambda: bool(call.turns) and call.turns[0].words.text == sentences_in("en").full)
    report(call, "started", 1)
    report(call, "finished", 1, 1000)
    await until(lambda: bool(peer.hung_up))
    with pytest.raises(TooManyConversations, match="0 callers"):
        all_.choose(call, "scripted")
    with pytest.raises(AssistantError, match="choose one of none, scripted"):
        all_.choose(call, "nobody")
    await all_.close()


async def test_an_assistant_that_fails_twice_is_followed_by_the_script() -> None:
    class Broken(Parrots):
        name = "openai"

        def dialogue(self, call: CallFacts, tools: Sequence[Tool]) -> Parrot:
            return Parrot([AssistantError("it answered 500")], [AssistantError("it answered 500")])

    taps = cast(Any, type("Taps", (), {"tap": lambda self, call_id, take: None})())
    all_ = Conversations(taps, {"scripted": Parrots(), "openai": Broken()}, "openai", greets=False)
    ears = Ears()
    all_._ears = cast(Any, ears)
    call = answered_call(VoiceByLanguage({"en": Voice}), EventBus(), Phone(), Worker())
    all_.answered(call)
    for number in (1, 2):
        ears.say("When are you open?")
        await until(lambda number=number: len(call.turns) == number and call.turns[-1].words.text)  # type: ignore[misc]
        report(call, "started", number)
        report(call, "finished", number, 1000)
    await until(lambda: all_.assistant_of("c1") == "scripted")
    assert all_.services == [ServiceState("assistant", "openai", "rests", 2, "it answered 500")]
    all_.choose(call, "none")


class Spoken(Voice):
    """Notes which language it is told to speak."""

    said: list[tuple[str, str]]

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        self.said.append((text, language))
        async for chunk in super().stream(text, language):
            yield chunk


async def test_a_caller_whose_language_is_not_heard_is_told_a_way_on() -> None:
    assert sentences_in("de-AT").language == "de" and "Null" in sentences_in("de-AT").unheard
    assert sentences_in("fi") == sentences_in("en")
    Spoken.said = []
    script = ScriptedAssistant(read_script(DEFAULT))
    taps = cast(Any, type("Taps", (), {"tap": lambda self, call_id, take: None})())
    all_ = Conversations(taps, {"scripted": script}, "scripted")
    call = answered_call(VoiceByLanguage({"en": Spoken, "de": Spoken}), EventBus(), Peer(), Sink())
    call._language = "de"
    all_.answered(call)
    way_on = "Drücken Sie die Null für einen Menschen, oder die Eins für einen Rückruf."
    await until(lambda: (way_on, "de") in Spoken.said)
    assert Spoken.said[0] == ("Hello, you have reached Visavis.", "en")  # the script is in English
    for turn in (1, 2):
        report(call, "started", turn)
        report(call, "finished", turn, 1000)
    assert all_.assistant_of("c1") == "scripted" and all_.state_of("c1") == "listening"
    call.on_dtmf("1")
    await until(lambda: ("What is your name?", "en") in Spoken.said)
    all_.choose(call, "none")
    assert all_.assistant_of("c1") == "none" and all_.transcript("c1") is not None
    await all_.close()
    call._turns.close()


async def test_constant_sentences_are_spoken_ahead_however_often_the_voice_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversations_module, "_AGAIN_S", 0.0)

    class Failing(Spoken):
        async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
            self.said.append((text, language))
            if len(self.said) % 2:
                raise SpeechError("the voice has not answered for 10 s")
            yield np.zeros(80, np.int16)

    Spoken.said = []
    wanted = [sentences_in("en"), sentences_in("de")]
    await conversations_module._spoken_ahead(VoiceByLanguage({"en": Failing, "de": Failing}), wanted)
    texts = list(dict.fromkeys(text for text, _ in Spoken.said))
    assert texts == [*sentences_in("en").kept, *sentences_in("de").kept]
    assert len(Spoken.said) == 2 * len(texts)


async def test_an_assistant_without_a_greeting_of_its_own_greets_in_the_language_of_the_call() -> None:
    class Polite(Parrots):
        def dialogue(self, call: CallFacts, tools: Sequence[Tool]) -> Parrot:
            parrot = Parrot()
            parrot.greeting = GREETING
            return parrot

    Spoken.said = []
    taps = cast(Any, type("Taps", (), {"tap": lambda self, call_id, take: None})())
    all_ = Conversations(taps, {"scripted": Polite()}, "scripted", recognition=SttSettings("deepgram"))
    call = answered_call(VoiceByLanguage({"en": Spoken, "de": Spoken}), EventBus(), Peer(), Sink())
    call._language = "de"
    all_.answered(call)
    await until(lambda: len(Spoken.said) == 2)
    assert [language for _, language in Spoken.said] == ["de", "de"]
    assert " ".join(text for text, _ in Spoken.said) == sentences_in("de").greeting
    await all_.close()
    call._turns.close()


def test_memory_is_bounded_and_joins_stretches_of_one_reply(tmp_path: Path) -> None:
    memory = Memory()
    memory.said("a")
    memory.heard("one")
    memory.heard("two")
    memory.unsaid("a")
    assert memory.messages == [Message("caller", "a"), Message("assistant", "one two")]
    for number in range(1000):
        memory.said(str(number) * 100)
        memory.heard(".")
    assert sum(len(each.text) for each in memory.messages) <= 60_000
    assert len(memory.messages) <= 200
