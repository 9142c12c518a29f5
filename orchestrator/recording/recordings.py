"""Every recording of this orchestrator: begun by setting or by the API, paused by API and key, kept for so long."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from orchestrator.archive.archive import Archive
from orchestrator.archive.entries import RecordingPart
from orchestrator.calls.call import Call, CallGone
from orchestrator.calls.turns import TooManyTurns, TurnRecord
from orchestrator.recording.kept import KeptRecordings, RecordingRefused
from orchestrator.recording.messages import (
    AskRecorder,
    EndRecorder,
    EndRecording,
    PartState,
    Record,
    RecorderMessage,
    RecorderReady,
    RecordingEnded,
    RecordingFailed,
    codec,
)
from orchestrator.recording.store import Store
from orchestrator.recording.tape import CallTape
from orchestrator.speech.base import PCM, SpeechError
from orchestrator.worker.messages import Heard, Viewed
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child, KeptChild, ProcessState, Program
from visavis.service.logs import Log
from visavis.service.supervisor import BackOff, Supervisor
from visavis.service.unhandled import logged

log = Log(__name__)

PROGRAM = Program(
    "recorder",
    "orchestrator.recording.process",
    codec,
    hello=RecorderReady,
    start_s=30.0,
    silence_s=15.0,
    ping=AskRecorder,
)
_RESTART_S = (0.1, 10.0, 30.0)
_TONE_RATE = 16_000
_MOST_ANNOUNCED = 3
_UNHEARD = "what was recorded is erased, since the announcement was not heard to its end"
State = Literal["off", "recording", "paused"]


class Taps(Protocol):
    """Where a call's sound and pictures come from: :class:`orchestrator.calls.registry.CallRegistry`."""

    def record(
        self,
        call_id: str,
        heard: Callable[[Heard], None] | None = None,
        viewed: Callable[[Viewed], None] | None = None,
    ) -> None: ...


@dataclass(frozen=True)
class RecordingSettings:
    """``every``: each call is recorded. ``announcement`` is said and ``tone`` heard as a recording begins; where
    the first is not heard to its end nothing is kept. ``pause_key`` pauses and resumes it. Files are kept for
    ``days`` (0: for ever), in ``most_bytes``."""

    every: bool = False
    announcement: str = ""
    tone: bool = False
    pause_key: str = ""
    days: float = 30.0
    most_bytes: int = 20_000_000_000


class Recordings:
    """Owns the recorder. Files go into ``store``, their list into ``archive``."""

    def __init__(self, taps: Taps, archive: Archive, store: Store, settings: RecordingSettings) -> None:
        self._taps, self._archive, self._store = taps, archive, store
        self.kept = KeptRecordings(archive, store, self._under_way, settings.days, settings.most_bytes)
        self._settings = settings
        self._tapes: dict[str, CallTape] = {}
        self._ending: dict[str, CallTape] = {}
        self._supervisor: Supervisor | None = None
        self._started = False
        self.failures = 0
        self.seconds = self.octets = 0.0
        """Written since this process began."""
        self._child: KeptChild[RecorderMessage] = KeptChild(
            PROGRAM,
            BackOff(*_RESTART_S),
            on_message=self._take,
            on_start=self._begun,
            on_end=self._lost,
        )

    @property
    def active(self) -> int:
        """Calls that are recorded now."""
        return len(self._tapes)

    @property
    def process(self) -> ProcessState:
        """How the recorder is."""
        return self._child.state

    @property
    def pid(self) -> int | None:
        """The newest recorder."""
        return self._child.pid

    # -- life --

    def start(self, supervisor: Supervisor) -> None:
        """Begin to look after what was recorded; the recorder itself starts with the first recording, or now where
        every call is recorded."""
        self._supervisor = supervisor
        self.kept.start(supervisor)
        if self._settings.every:
            self._start_recorder()

    async def close(self) -> None:
        """End every recording, and close its file, or erase it where its announcement was not heard to its end."""
        for call_id in list(self._tapes):
            self.stop(call_id)
        await self._child.close(EndRecorder())
        for tape in list(self._ending.values()):
            self._cut(tape)
        await self.kept.close()

    # -- what is asked --

    def begun(self, call: Call) -> None:
        """A caller is about to be spoken to."""
        if self._settings.every:
            try:
                self.record(call)
            except RecordingRefused as error:
                log.error("not_recorded", call=call.call_id, reason=str(error))

    def record(self, call: Call) -> None:
        """Begin to record a call. Raises :class:`RecordingRefused`."""
        if call.ended_at is not None or call.answered_at is None:
            raise RecordingRefused(f"call '{call.call_id}' is not under way")
        if call.call_id in self._tapes:
            raise RecordingRefused(f"call '{call.call_id}' is being recorded already")
        if call.call_id in self._ending:
            raise RecordingRefused(f"the last recording of call '{call.call_id}' is being closed: try again")
        try:
            self._archive.place = self._store.place
        except OSError as error:
            raise RecordingRefused(f"there is no folder for recordings: {error}") from error
        self._beep(call)
        announcement = self._announce(call)
        tape = self._tapes[call.call_id] = CallTape(call, self.send, self._key_pressed, self._call_ended)
        tape.number = call.recorded_parts
        call.unkept_until = min(call.unkept_until, time.time())
        call.witness = tape
        tape.announcement = announcement
        self._start_recorder()
        self._record(tape)
        if announcement is not None:
            logged(asyncio.create_task(self._announced(tape)), "announcement")

    def pause(self, call_id: str, paused: bool) -> None:
        """Leave out what comes, until it is resumed. Raises :class:`RecordingRefused`."""
        tape = self._tapes.get(call_id)
        if tape is None:
            raise RecordingRefused(f"call '{call_id}' is not recorded: POST /v1/calls/{call_id}/recording")
        if paused == tape.paused:
            return
        tape.paused = paused
        if not paused:
            tape.begin_anew()
            self._beep(tape.call)
            self._tap(tape)
        tape.call.tell("recording_paused" if paused else "recording_resumed", {})

    def stop(self, call_id: str) -> bool:
        """End a call's recording; whether there was one."""
        tape = self._tapes.pop(call_id, None)
        if tape is None:
            return False
        if tape.call.witness is tape:
            tape.call.witness = None
        tape.call.recorded_parts, tape.call.unkept_until = tape.number, tape.left_out_until
        self._taps.record(call_id)
        if not tape.announced:
            tape.dropped = tape.dropped or _UNHEARD
            log.warning("recording_dropped", call=call_id, reason=tape.dropped)
        self._ending[call_id] = tape
        if not self.send(EndRecording(call_id)):
            self._cut(tape)
        return True

    def state_of(self, call_id: str) -> State:
        """How a call is recorded."""
        tape = self._tapes.get(call_id)
        return "off" if tape is None else "paused" if tape.paused else "recording"

    def _under_way(self, call_id: str) -> bool:
        return call_id in self._tapes or call_id in self._ending

    def _call_ended(self, tape: CallTape) -> None:
        self.stop(tape.call.call_id)

    def _key_pressed(self, tape: CallTape, digit: str) -> None:
        if digit == self._settings.pause_key:
            self.pause(tape.call.call_id, not tape.paused)

    # -- the recorder --

    def send(self, message: RecorderMessage) -> bool:
        """To the recorder, if there is one."""
        try:
            self._child.send(message)
        except ChannelClosed:
            return False
        return True

    def _start_recorder(self) -> None:
        if not self._started and self._supervisor is not None:
            self._started = True
            self._child.start(self._supervisor)

    def _record(self, tape: CallTape) -> None:
        call = tape.call
        folder, key_file = str(self._store.folder), str(self._store.key_file or "")
        tape.begin_anew()
        picture = call.shows_picture
        self.send(Record(call.call_id, folder, tape.number + 1, picture, key_file))
        self._tap(tape)

    def _tap(self, tape: CallTape) -> None:
        """Have sound and pictures, a key frame soon."""
        self._taps.record(tape.call.call_id, tape.heard, tape.viewed)

    def _begun(self, child: Child[RecorderMessage]) -> None:
        for tape in self._tapes.values():
            self._record(tape)

    def _lost(self, reason: str, pause: float) -> None:
        log.error("recorder_lost", reason=reason, again_in_s=pause, calls=len(self._tapes))
        for tape in [*self._tapes.values(), *self._ending.values()]:
            self._cut(tape)

    def _take(self, message: RecorderMessage) -> None:
        match message:
            case PartState(call_id):
                tape = self._tapes.get(call_id) or self._ending.get(call_id)
                if tape is not None:
                    self._part(tape, message)
            case RecordingEnded(call_id):
                if (tape := self._ending.get(call_id)) is not None:
                    self._cut(tape)
            case RecordingFailed(call_id, reason):
                self.failures += 1
                log.error("recording_failed", call=call_id, reason=reason)
                self.stop(call_id)
                if (tape := self._ending.get(call_id)) is not None:
                    if tape.paused:
                        tape.call.unkept_until = math.inf  # nobody can end the pause but another recording
                    self._cut(tape, reason)

    def _part(self, tape: CallTape, state: PartState) -> None:
        first = not tape.parts
        part = RecordingPart(
            state.call_id,
            state.number,
            round(tape.time_of(state.piece), 3),
            state.seconds,
            state.size,
            state.width,
            state.height,
            "whole" if state.over else "recording",
            self._store.place,
            self._store.key_file is not None,
        )
        before = tape.parts.get(state.number)
        self.seconds += max(0.0, part.seconds - (before.seconds if before else 0.0))
        self.octets += max(0, part.size - (before.size if before else 0))
        tape.parts[state.number] = part
        tape.number = max(tape.number, state.number)
        self.kept.keep(part, move=tape.announced)
        if first:
            tape.call.tell("recording_started", {}, recording_id=part.recording_id)

    def _cut(self, tape: CallTape, reason: str = "") -> None:
        """What was being written is as long as it got."""
        for number, part in tape.parts.items():
            if part.state == "recording":
                seconds = max(0.0, round(tape.time_of(tape.last_piece + 1) - part.began_at, 3))
                size, _ = self._store.written(f"{part.recording_id}.mp4")
                cut = tape.parts[number] = replace(part, state="cut", seconds=seconds, size=size)
                self.kept.keep(cut, move=tape.announced)
        if self._ending.get(tape.call.call_id) is tape:
            self._stopped(tape, reason)

    def _stopped(self, tape: CallTape, reason: str = "") -> None:
        self._ending.pop(tape.call.call_id, None)
        tape.call.recorded_parts = max(tape.call.recorded_parts, tape.number)
        if tape.dropped:
            for part in tape.parts.values():
                self.kept.drop(part)
            tape.parts.clear()
        seconds = round(sum(part.seconds for part in tape.parts.values()), 3)
        why = {"reason": reason or tape.dropped} if reason or tape.dropped else {}
        tape.call.tell("recording_stopped", {}, parts=len(tape.parts), seconds=seconds, **why)

    # -- consent --

    def _announce(self, call: Call) -> TurnRecord | None:
        """Say that the call is recorded, where that is set. Raises :class:`RecordingRefused`."""
        if not self._settings.announcement:
            return None
        try:
            return call.announce(self._settings.announcement)
        except (CallGone, TooManyTurns, SpeechError) as error:
            raise RecordingRefused(f"the announcement of the recording cannot be said: {error}") from error

    async def _announced(self, tape: CallTape) -> None:
        """Until the caller, who may speak over it, has heard all of it; not for ever: then nothing is kept."""
        call_id, reason = tape.call.call_id, ""
        for left in reversed(range(_MOST_ANNOUNCED)):
            turn = tape.announcement
            assert turn is not None
            await turn.done.wait()
            if tape.announced and not tape.dropped:
                for part in tape.parts.values():  # that were over before
                    self.kept.keep(part)
                return
            if self._tapes.get(call_id) is not tape:
                return
            reason = turn.reason or (
                "it was spoken over" if turn.state == "interrupted" else "it has no sound"
            )
            if left:
                try:
                    tape.announcement = self._announce(tape.call)
                except RecordingRefused as error:
                    reason = str(error)
                    break
        self.failures += 1
        tape.dropped = f"{_UNHEARD}: {reason}"
        self.stop(call_id)

    def _beep(self, call: Call) -> None:
        if self._settings.tone:
            with contextlib.suppress(CallGone, TooManyTurns):
                call.announce(_tone(), _TONE_RATE)


async def _tone() -> AsyncIterator[PCM]:
    """A fifth of a second of 1.4 kHz, as recorded lines are marked with."""
    samples = np.arange(_TONE_RATE // 5)
    yield (3000 * np.sin(2 * np.pi * 1400 * samples / _TONE_RATE)).astype(np.int16)
