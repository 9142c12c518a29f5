"""Every recording of this orchestrator: begun by setting or by the API, paused by API and key, kept for so long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from orchestrator.archive.archive import Archive
from orchestrator.archive.database import DatabaseAway
from orchestrator.archive.entries import RecordingPart
from orchestrator.calls.call import Call, CallGone
from orchestrator.calls.turns import TooManyTurns
from orchestrator.recording.messages import (
    AskRecorder,
    EndRecorder,
    EndRecording,
    PartState,
    Record,
    RecordedPicture,
    RecordedSound,
    RecorderMessage,
    RecorderReady,
    RecordingEnded,
    RecordingFailed,
    codec,
)
from orchestrator.recording.store import Store, StoreAway
from orchestrator.speech.base import PCM, SpeechError
from orchestrator.worker.messages import Heard, Viewed
from visavis.service.channel import ChannelClosed
from visavis.service.child import Child, KeptChild, ProcessState, Program
from visavis.service.logs import Log
from visavis.service.supervisor import BackOff, Supervisor

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
_RETENTION_S = 600.0
_AGAIN_S = 30.0
_PIECE_S = 0.02
_TONE_RATE = 16_000
State = Literal["off", "recording", "paused"]


class RecordingRefused(Exception):
    """What is asked cannot be done with this recording: one sentence."""


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
    """``every``: each call is recorded. ``announcement`` is said and ``tone`` heard as a recording begins;
    ``pause_key`` pauses and resumes it. Files are kept for ``days`` (0: for ever), in ``most_bytes``."""

    every: bool = False
    announcement: str = ""
    tone: bool = False
    pause_key: str = ""
    days: float = 30.0
    most_bytes: int = 20_000_000_000


class CallTape:
    """A call that is recorded: implements :class:`orchestrator.calls.call.Witness`."""

    def __init__(self, call: Call, owner: Recordings) -> None:
        self.call = call
        self.paused = False
        self.number = 0
        """Of the last part."""
        self.last_piece = 0
        self.parts: dict[int, RecordingPart] = {}
        self._owner = owner
        self._zero: float | None = None
        self._waits = True

    def on_key(self, digit: str) -> None:
        self._owner.key_pressed(self, digit)

    def on_end(self) -> None:
        self._owner.stop(self.call.call_id)

    def time_of(self, piece: int) -> float:
        """When a 20 ms step was sent, in seconds since the epoch."""
        return (time.time() if self._zero is None else self._zero) + piece * _PIECE_S

    def heard(self, message: Heard) -> None:
        """A step of sound."""
        if self._zero is None:
            self._zero = time.time() - message.piece * _PIECE_S
        self.last_piece = message.piece
        if not self.paused:
            sound = (message.reference, message.rate, message.payload)
            self._owner.send(RecordedSound(message.call_id, message.piece, *sound))

    def viewed(self, message: Viewed) -> None:
        """A picture: after a pause from the next key frame on."""
        if self.paused or (self._waits and not message.key):
            return
        self._waits = False
        ticks = (message.timestamp - message.start) & 0xFFFFFFFF
        expected = self.last_piece * 1800
        ticks += round((expected - ticks) / (1 << 32)) * (1 << 32)  # it wraps every thirteen hours
        self._owner.send(RecordedPicture(message.call_id, ticks, message.key, message.payload))

    def begin_anew(self) -> None:
        """Pictures are of no use before the next key frame."""
        self._waits = True


class Recordings:
    """Owns the recorder. Files go into ``store``, their list into ``archive``."""

    def __init__(self, taps: Taps, archive: Archive, store: Store, settings: RecordingSettings) -> None:
        self._taps, self._archive, self._store = taps, archive, store
        self._settings = settings
        self._tapes: dict[str, CallTape] = {}
        self._ending: dict[str, CallTape] = {}
        self._supervisor: Supervisor | None = None
        self._started = False
        self.failures = 0
        self.seconds = self.octets = 0.0
        """Written since this process began."""
        self._to_move: asyncio.Queue[RecordingPart] = asyncio.Queue()
        self._moving = 0
        self._child: KeptChild[RecorderMessage] = KeptChild(
            PROGRAM,
            BackOff(*_RESTART_S),
            on_message=self._take,
            on_start=self._begun,
            on_end=self._lost,
        )
        archive.before_erasing = self._erase_files

    @property
    def active(self) -> int:
        """Calls that are recorded now."""
        return len(self._tapes)

    @property
    def waiting(self) -> int:
        """Files that are whole and not where they belong yet."""
        return self._to_move.qsize() + self._moving

    @property
    def process(self) -> ProcessState:
        """How the recorder is."""
        return self._child.state

    @property
    def pid(self) -> int | None:
        """The newest recorder."""
        return self._child.pid

    @property
    def store(self) -> Store:
        """Where the files lie."""
        return self._store

    # -- life --

    def start(self, supervisor: Supervisor) -> None:
        """Begin to look after what was recorded; the recorder itself starts with the first recording, or now where
        every call is recorded."""
        self._supervisor = supervisor
        supervisor.keep("recordings", self._look_after)
        supervisor.keep("moving of recordings", self._move)
        if self._settings.every:
            self._start_recorder()

    async def close(self) -> None:
        """End every recording, and close its file."""
        for call_id in list(self._tapes):
            self.stop(call_id)
        await self._child.close(EndRecorder())
        for tape in list(self._ending.values()):
            self._cut(tape)

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
        tape = self._tapes[call.call_id] = CallTape(call, self)
        tape.number = call.recorded_parts
        call.witness = tape
        self._start_recorder()
        self._announce(call)
        self._record(tape)

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
        tape.call.recorded_parts = tape.number
        self._taps.record(call_id)
        self._ending[call_id] = tape
        if not self.send(EndRecording(call_id)):
            self._cut(tape)
        return True

    def state_of(self, call_id: str) -> State:
        """How a call is recorded."""
        tape = self._tapes.get(call_id)
        return "off" if tape is None else "paused" if tape.paused else "recording"

    def key_pressed(self, tape: CallTape, digit: str) -> None:
        """The caller pressed a key."""
        if digit == self._settings.pause_key:
            self.pause(tape.call.call_id, not tape.paused)

    async def find(self, recording_id: str) -> RecordingPart | None:
        """A part. Raises :class:`DatabaseAway`."""
        call_id, _, number = recording_id.rpartition("-")
        parts = await self._archive.recordings(1000, call_id)
        return next((part for part in parts if str(part.number) == number), None)

    async def erase(self, part: RecordingPart) -> None:
        """Leave nothing of a part. Raises :class:`RecordingRefused`, :class:`StoreAway`, :class:`DatabaseAway`."""
        self.check_here(part)
        if part.state == "recording" and part.call_id in self._tapes | self._ending:
            raise RecordingRefused(f"recording '{part.recording_id}' goes on: stop it first")
        await self._store.delete(f"{part.recording_id}.mp4")
        await self._archive.erase_recordings([part])

    def check_here(self, part: RecordingPart) -> None:
        """Raises :class:`RecordingRefused` for a part in another orchestrator's folder."""
        if part.place != self._store.place:
            raise RecordingRefused(
                f"recording '{part.recording_id}' lies in another orchestrator's folder: ask that one"
            )

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
        self._archive.keep_recording(part)
        if first:
            tape.call.tell("recording_started", {}, recording_id=part.recording_id)
        if state.over:
            self._to_move.put_nowait(part)

    def _cut(self, tape: CallTape, reason: str = "") -> None:
        """What was being written is as long as it got."""
        for number, part in tape.parts.items():
            if part.state == "recording":
                seconds = max(0.0, round(tape.time_of(tape.last_piece + 1) - part.began_at, 3))
                size, _ = self._store.written(f"{part.recording_id}.mp4")
                cut = tape.parts[number] = replace(part, state="cut", seconds=seconds, size=size)
                self._archive.keep_recording(cut)
                self._to_move.put_nowait(cut)
        if self._ending.get(tape.call.call_id) is tape:
            self._stopped(tape, reason)

    def _stopped(self, tape: CallTape, reason: str = "") -> None:
        self._ending.pop(tape.call.call_id, None)
        tape.call.recorded_parts = max(tape.call.recorded_parts, tape.number)
        seconds = round(sum(part.seconds for part in tape.parts.values()), 3)
        why = {"reason": reason} if reason else {}
        tape.call.tell("recording_stopped", {}, parts=len(tape.parts), seconds=seconds, **why)

    # -- consent --

    def _announce(self, call: Call) -> None:
        self._beep(call)
        if self._settings.announcement:
            with contextlib.suppress(CallGone, TooManyTurns):
                try:
                    call.announce(self._settings.announcement)
                except SpeechError as error:
                    log.error("not_announced", call=call.call_id, reason=str(error))

    def _beep(self, call: Call) -> None:
        if self._settings.tone:
            with contextlib.suppress(CallGone, TooManyTurns):
                call.announce(_tone(), _TONE_RATE)

    # -- what is kept --

    async def _erase_files(self, call_ids: Sequence[str]) -> None:
        for call_id in call_ids:
            for part in await self._archive.recordings(1000, call_id):
                self.check_here(part)
                await self._store.delete(f"{part.recording_id}.mp4")

    async def _look_after(self) -> None:
        """Close the books of an orchestrator that was killed; then erase what is too old or too much."""
        swept = False
        while True:
            if self._store.used:
                with contextlib.suppress(DatabaseAway, StoreAway):
                    self._archive.place = self._store.place
                    if not swept:
                        await self._sweep()
                        swept = True
                    await self._retain()
            await asyncio.sleep(_RETENTION_S if swept else _AGAIN_S)

    async def _retain(self) -> None:
        place, days, most = self._store.place, self._settings.days, self._settings.most_bytes
        while due := await self._archive.recordings_due(place, days, most):
            for part in due:
                await self._store.delete(f"{part.recording_id}.mp4")
            await self._archive.erase_recordings(due)
            log.info("recordings_erased", parts=len(due))

    async def _sweep(self) -> None:
        for part in await self._archive.unfinished(self._store.place):
            if part.call_id not in self._tapes and part.call_id not in self._ending:
                size, at = self._store.written(f"{part.recording_id}.mp4")
                seconds = max(0.0, round(at - part.began_at, 3))
                self._archive.keep_recording(replace(part, state="cut", size=size, seconds=seconds))
        if self._store.moves:
            for part in await self._archive.recordings(10_000):
                if part.state != "recording" and self._store.written(f"{part.recording_id}.mp4")[0]:
                    self._to_move.put_nowait(part)

    async def _move(self) -> None:
        """Files that are whole go where they belong; where that is away they wait."""
        while True:
            self._moving = 0
            part = await self._to_move.get()
            self._moving = 1
            while True:
                try:
                    await self._store.take(f"{part.recording_id}.mp4")
                    break
                except StoreAway as error:
                    log.error("recording_not_moved", recording=part.recording_id, reason=str(error))
                    await asyncio.sleep(_AGAIN_S)


async def _tone() -> AsyncIterator[PCM]:
    """A fifth of a second of 1.4 kHz, as recorded lines are marked with."""
    samples = np.arange(_TONE_RATE // 5)
    yield (3000 * np.sin(2 * np.pi * 1400 * samples / _TONE_RATE)).astype(np.int16)
