"""The control process's end of the listening process: each call's ear, opened anew where the process dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from orchestrator.listening.messages import (
    AskListening,
    CloseEar,
    EarlyWords,
    EarMessage,
    EndListening,
    Hear,
    ListeningReady,
    OpenEar,
    RecogniseWith,
    RecognitionService,
    SpeechBegan,
    SpeechOnset,
    SpeechPaused,
    TakeUtterance,
    Words,
    codec,
)
from orchestrator.listening.recogniser import LANGUAGE
from orchestrator.listening.stt import ANSWER_S, SttSettings
from visavis.language import primary_language
from visavis.service.breaker import ServiceState
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child, KeptChild, ProcessState, Program
from visavis.service.logs import Log
from visavis.service.supervisor import BackOff, Supervisor

log = Log(__name__)

WORDS_S = 1.5
"""How long the recogniser that is installed may take."""
_RESTART_S = (0.1, 10.0, 10.0)
PROGRAM = Program(
    "listening process",
    "orchestrator.listening.process",
    codec,
    hello=ListeningReady,
    start_s=60.0,
    silence_s=10.0,
    ping=AskListening,
)
Speech = SpeechOnset | SpeechBegan | EarlyWords | SpeechPaused | Words
OnSpeech = Callable[[Speech], None]


class Ears:
    """``listen`` opens a call's ear; ``on_lost`` is told when the process has died: what was being said is lost."""

    def __init__(
        self, on_lost: Callable[[], None] = lambda: None, recognition: SttSettings | None = None
    ) -> None:
        self.on_lost = on_lost
        self.state: ListeningReady | None = None
        """What the process said of itself; None while there is none."""
        self.service: ServiceState | None = None
        """How the service that recognises does; None where there is none."""
        self._recognition = recognition or SttSettings()
        if self._recognition.provider:
            self.service = ServiceState("stt", self._recognition.provider, "unused")
        self._calls: dict[str, tuple[OnSpeech, str]] = {}
        self._child: KeptChild[EarMessage] = KeptChild(
            PROGRAM,
            BackOff(*_RESTART_S),
            on_start=self._started,
            on_message=self._take,
            on_end=self._lost,
        )

    @property
    def words_s(self) -> float:
        """How long words may take to come after a pause."""
        return ANSWER_S + WORDS_S if self._recognition.provider else WORDS_S

    def understands(self, language: str) -> bool:
        """Whether this language is recognised: services are taken to know every one."""
        return bool(self._recognition.provider) or primary_language(language) == LANGUAGE

    @property
    def pid(self) -> int | None:
        """The newest process."""
        return self._child.pid

    @property
    def process(self) -> ProcessState:
        """How it is."""
        return self._child.state

    def start(self, supervisor: Supervisor) -> None:
        """Begin to keep it."""
        self._child.start(supervisor)

    async def close(self) -> None:
        """End it."""
        await self._child.close(EndListening())

    def listen(self, call_id: str, on_speech: OnSpeech, language: str = LANGUAGE) -> None:
        """Tell what is heard in a call from now on."""
        self._calls[call_id] = on_speech, language
        self._send(OpenEar(call_id, language))

    def leave(self, call_id: str) -> None:
        """No more; nothing happens where nobody listened."""
        if self._calls.pop(call_id, None):
            self._send(CloseEar(call_id))

    def hear(self, message: Hear) -> None:
        """A stretch of a call's sound."""
        if message.call_id in self._calls:
            self._send(message)

    def take(self, call_id: str, pause: int) -> None:
        """The utterance that paused with this number is over."""
        self._send(TakeUtterance(call_id, pause))

    def _send(self, message: EarMessage) -> None:
        if self.state is not None:
            with contextlib.suppress(ChannelClosed):
                self._child.send(message)

    def _take(self, message: EarMessage) -> None:
        if isinstance(message, ListeningReady):
            self.state = message
            for call_id, (_, language) in self._calls.items():
                self._send(OpenEar(call_id, language))
            if not message.recognises:
                log.error("no_recognition", reason=message.reason)
        elif isinstance(message, Speech) and message.call_id in self._calls:
            self._calls[message.call_id][0](message)
        elif isinstance(message, RecognitionService):
            self.service = message.state

    def _started(self, child: Child[EarMessage]) -> None:
        child.send(RecogniseWith(self._recognition))

    def _lost(self, reason: str, pause: float) -> None:
        self.state = None
        log.error("listening_lost", reason=reason, again_in_s=pause, calls=len(self._calls))
        self.on_lost()
