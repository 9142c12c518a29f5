"""Every conversation of this orchestrator: begun when a call is answered, or when the API gives it an assistant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from orchestrator.assistants.base import Assistant, AssistantError, CallFacts
from orchestrator.assistants.http_tool import HttpTool
from orchestrator.calls.call import Call
from orchestrator.calls.portraits import AvatarCatalog
from orchestrator.calls.registry import CallRegistry
from orchestrator.conversation.conversation import NO_LIMITS, Conversation
from orchestrator.conversation.limits import ConversationLimits
from orchestrator.conversation.sentences import GREETING, LANGUAGE, Sentences, sentences_in
from orchestrator.conversation.tools import CallTools
from orchestrator.conversation.transcript import OnEntry, Transcript
from orchestrator.listening.ears import Ears
from orchestrator.listening.messages import Hear
from orchestrator.listening.stt import SttSettings
from orchestrator.speech.base import SpeechError, TextToSpeech, VoiceByLanguage
from orchestrator.speech.remote import SentenceCache
from orchestrator.worker.messages import Heard
from visavis.service.breaker import CircuitBreaker, ServiceState
from visavis.service.logs import Log
from visavis.service.supervisor import Supervisor
from visavis.service.unhandled import logged

log = Log(__name__)

NONE = "none"
FALLBACK = "scripted"
"""Who goes on where another assistant fails."""
ENDED_KEPT = 100
_AGAIN_S = 1.0


class TooManyConversations(Exception):
    """As many callers as may be are talked with already."""


class Conversations:
    """``assistants`` by name; ``usual`` is that of calls which name none, and ``greets``.

    ``on_entry`` takes every transcript's entries; ``catalog`` has the faces that assistants may show.
    """

    def __init__(
        self,
        calls: CallRegistry,
        assistants: Mapping[str, Assistant],
        usual: str = NONE,
        *,
        most: int = 20,
        greets: bool = True,
        transfer_to: str = "",
        catalog: AvatarCatalog | None = None,
        http_tools: Mapping[str, HttpTool] | None = None,
        recognition: SttSettings | None = None,
        language: str = LANGUAGE,
        limits: ConversationLimits = NO_LIMITS,
        on_entry: OnEntry = lambda call_id, entry: None,
    ) -> None:
        self._calls = calls
        self._assistants = dict(assistants)
        self._usual, self._most = usual, most
        self._greets, self._transfer_to = greets, transfer_to
        self._catalog = catalog
        self._http_tools = http_tools or {}
        self._language, self._limits = language, limits
        self._on_entry = on_entry
        self._under_way: dict[str, tuple[str, Conversation]] = {}
        self._transcripts: dict[str, Transcript] = {}
        self._ears = Ears(self._deaf, recognition)
        self._breakers = {
            name: CircuitBreaker("assistant", name) for name in self._assistants if name != FALLBACK
        }
        self._prepare: Callable[[], None] = lambda: None

    @property
    def ears(self) -> Ears:
        """The listening process."""
        return self._ears

    @property
    def active(self) -> int:
        """Conversations under way."""
        return len(self._under_way)

    @property
    def hears(self) -> bool:
        """Whether the listening process is there and recognises words."""
        return self._ears.state is not None and self._ears.state.recognises

    @property
    def services(self) -> list[ServiceState]:
        """Of others: who recognises, and who answers."""
        found = [self._ears.service] if self._ears.service is not None else []
        return found + [each.state for each in self._breakers.values()]

    @property
    def names(self) -> list[str]:
        """What a call's assistant may be."""
        return [NONE, *self._assistants]

    def start(self, supervisor: Supervisor, voices: VoiceByLanguage, cache: SentenceCache) -> None:
        """Begin to listen, and speak what must never wait ahead of time: now where every call has an assistant,
        else when the first one gets one."""
        self._prepare = lambda: self._begin_to_listen(supervisor, voices, cache)
        if self._usual != NONE:
            self._begin_to_listen(supervisor, voices, cache)

    async def close(self) -> None:
        """Let go of every call."""
        for _, conversation in list(self._under_way.values()):
            conversation.close()
        await self._ears.close()
        for assistant in self._assistants.values():
            await assistant.close()

    def assistant_of(self, call_id: str) -> str:
        """The name of who talks with this caller."""
        found = self._under_way.get(call_id)
        return found[0] if found else NONE

    def state_of(self, call_id: str) -> str:
        """listening, thinking, speaking or held; "" where nobody talks with the caller."""
        found = self._under_way.get(call_id)
        return found[1].state if found else ""

    def transcript(self, call_id: str) -> Transcript | None:
        """Of a call that somebody talks or talked with."""
        return self._transcripts.get(call_id)

    def forget(self, call_id: str) -> None:
        """Keep nothing of what was said in a call that is not talked with any more."""
        if call_id not in self._under_way:
            self._transcripts.pop(call_id, None)

    def answered(self, call: Call) -> None:
        """A call has been answered: its usual assistant takes it."""
        name = self._usual if call.assistant is None else call.assistant
        if name == NONE:
            return
        try:
            self.choose(call, name, greet=self._greets)
        except TooManyConversations:
            log.warning("too_many_conversations", call=call.call_id, most=self._most)
            said = sentences_in(call.language)
            turn = call.say(said.full, said.language)
            logged(asyncio.create_task(_hang_up_after(call, turn.done)), "goodbye")

    def check(self, name: str) -> None:
        """Raises :class:`AssistantError` where there is no such assistant."""
        if name not in self.names:
            raise AssistantError(
                f"there is no assistant '{name[:40]}': choose one of {', '.join(self.names)}"
            )

    def choose(self, call: Call, name: str, *, hold: bool = False, greet: bool = True) -> None:
        """Have somebody else talk with the caller, or nobody (``none``). Raises :class:`AssistantError`,
        :class:`TooManyConversations`."""
        self.check(name)
        current = self._under_way.get(call.call_id)
        if current is not None and current[0] == name:
            current[1].hold(hold)
            return
        if current is None and name != NONE and len(self._under_way) >= self._most:
            raise TooManyConversations(f"{self._most} callers are talked with already: try again later")
        if current is not None:
            current[1].close()
            call.attendant = None
        if name != NONE:
            self._begin(call, name, hold, greet and not call.spoken)
        call.tell("assistant", {"assistant": name, "held": hold}, assistant=name)

    def _begin_to_listen(self, supervisor: Supervisor, voices: VoiceByLanguage, cache: SentenceCache) -> None:
        self._prepare = lambda: None
        self._ears.start(supervisor)
        wanted = {each.language: each for each in map(sentences_in, (LANGUAGE, self._language))}
        for said in wanted.values():
            for sentence in said.kept:
                cache.keep(sentence, said.language)
        supervisor.watch("constant sentences", _spoken_ahead(voices, wanted.values()))

    def _begin(self, call: Call, name: str, hold: bool, greet: bool) -> None:
        self._prepare()
        call_id, signalling = call.call_id, call.signalling
        facts = CallFacts(
            call_id, signalling.caller, signalling.dialled, call.language or LANGUAGE, self._transfer_to
        )
        tools = CallTools(call, self._transfer_to, self._http_tools, self._catalog)
        transcript = self._transcripts.setdefault(
            call_id, Transcript(lambda entry: self._on_entry(call_id, entry))
        )
        dialogue = self._assistants[name].dialogue(facts, tools.offered)
        conversation = Conversation(
            call,
            self._ears,
            dialogue,
            tools,
            transcript,
            on_close=lambda: self._ended(call_id),
            on_failing=lambda: self._fall_back(call),
            breaker=self._breakers.get(name),
            limits=self._limits,
        )
        self._under_way[call_id] = name, conversation
        self._calls.tap(call_id, self._heard)
        call.attendant = conversation
        sentences, said = [], sentences_in(facts.language)
        if greet and dialogue.greeting == GREETING:
            sentences.append((said.greeting, said.language))
        elif greet:
            sentences.append((dialogue.greeting, dialogue.language or facts.language))
        if not self._ears.understands(facts.language):
            sentences.append((said.unheard, said.language))
        conversation.start(*sentences)
        if hold:
            conversation.hold(True)

    def _heard(self, message: Heard) -> None:
        sound = message.reference, message.rate, message.payload, message.behind
        self._ears.hear(Hear(message.call_id, message.position, *sound))

    def _ended(self, call_id: str) -> None:
        self._under_way.pop(call_id, None)
        self._calls.tap(call_id, None)
        for old in [each for each in self._transcripts if each not in self._under_way][:-ENDED_KEPT]:
            del self._transcripts[old]

    def _fall_back(self, call: Call) -> None:
        """An assistant has failed twice in a row: the script goes on where there is one."""
        if self.assistant_of(call.call_id) != FALLBACK and FALLBACK in self._assistants:
            log.warning("assistant_replaced", call=call.call_id)
            self.choose(call, FALLBACK, greet=False)

    def _deaf(self) -> None:
        for _, conversation in list(self._under_way.values()):
            conversation.deaf()


async def _spoken_ahead(voices: VoiceByLanguage, wanted: Iterable[Sentences]) -> None:
    """Each of them, the first one first, however often the voice has to be asked."""
    for said in wanted:
        for sentence in said.kept:
            while True:
                if await _spoken(voices.voice(said.language), sentence, said.language):
                    break
                await asyncio.sleep(_AGAIN_S)


async def _spoken(voice: TextToSpeech, sentence: str, language: str) -> bool:
    try:
        async for _ in voice.stream(sentence, language):
            pass
    except SpeechError:
        return False
    return True


async def _hang_up_after(call: Call, done: asyncio.Event) -> None:
    await done.wait()
    call.hang_up("too many conversations")
