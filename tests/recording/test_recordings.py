"""Recordings without a recorder: what it is told, and what becomes of what it tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from orchestrator.archive.archive import Archive, Retention
from orchestrator.archive.database import Database, sqlite_url
from orchestrator.archive.entries import RecordingPart
from orchestrator.calls.call import Call
from orchestrator.calls.events import EventBus
from orchestrator.recording import kept
from orchestrator.recording.kept import RecordingRefused
from orchestrator.recording.messages import (
    EndRecording,
    PartState,
    Record,
    RecordedPicture,
    RecordedSound,
    RecorderMessage,
    RecordingEnded,
    RecordingFailed,
)
from orchestrator.recording.recordings import Recordings, RecordingSettings
from orchestrator.recording.store import Store, StoreAway
from orchestrator.speech.base import PCM, SpeechError, VoiceByLanguage
from orchestrator.worker.messages import Heard, Viewed
from tests.archive.support import record
from tests.support.calls import ENDED, Peer, answered_call, report
from tests.support.waiting import until
from visavis.service.channel import ChannelClosed
from visavis.service.supervisor import Supervisor


class Voice:
    sample_rate = 8000

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        yield np.ones(800, np.int16)


class Taps:
    """A call's sound and pictures, on paper."""

    heard: Callable[[Heard], None] | None = None
    viewed: Callable[[Viewed], None] | None = None
    keyframes = 0

    def record(self, call_id: str, heard: Any = None, viewed: Any = None) -> None:
        self.heard, self.viewed = heard, viewed
        self.keyframes += viewed is not None


class Child:
    """A recorder that is told, and says nothing by itself."""

    pid = 7

    def __init__(self) -> None:
        self.sent: list[RecorderMessage] = []
        self.there = True

    def start(self, supervisor: Supervisor) -> None: ...
    async def close(self, last: RecorderMessage) -> None: ...
    def send(self, message: RecorderMessage) -> None:
        if not self.there:
            raise ChannelClosed("there is no recorder now")
        self.sent.append(message)


class Place:
    def __init__(self, folder: Path, settings: RecordingSettings) -> None:
        self.folder = folder / "recordings"
        self.archive = Archive(Database(sqlite_url(folder / "records.db")))
        self.taps, self.child, self.bus = Taps(), Child(), EventBus()
        self.recordings = Recordings(self.taps, self.archive, Store(self.folder), settings)
        self.recordings._child = self.child  # type: ignore[assignment]
        self.supervisor = Supervisor()
        self.archive.start(self.supervisor)

    def call(self) -> Call:
        return answered_call(VoiceByLanguage({}), self.bus, Peer())

    def hear(self, piece: int) -> None:
        assert self.taps.heard is not None
        self.taps.heard(Heard("c1", piece * 320, b"1234", 2, 8000, piece))

    def see(self, number: int, key: bool, start: int = 0) -> None:
        assert self.taps.viewed is not None
        self.taps.viewed(Viewed("c1", (start + number * 3600) & 0xFFFFFFFF, key, b"picture", start))

    def part(self, number: int = 1, *, over: bool, seconds: float = 0.0) -> None:
        self.recordings._take(PartState("c1", number, 0, seconds, 1000 if over else 0, 512, 512, over))

    def sent(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.child.sent if isinstance(message, kind)]

    async def listed(self) -> list[RecordingPart]:
        return await self.archive.recordings(100)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[[RecordingSettings], Place]]:
    places = []

    def one(settings: RecordingSettings = RecordingSettings()) -> Place:  # noqa: B008
        places.append(Place(tmp_path, settings))
        return places[-1]

    yield one
    for place in places:
        await place.recordings.close()
        await place.supervisor.close()
        await place.archive.close()


Make = Callable[..., Place]


async def test_a_recording_from_its_beginning_to_its_end(make: Make) -> None:
    place = make()
    call = place.call()
    async with place.bus.listen() as events:
        place.recordings.record(call)
        assert place.recordings.state_of("c1") == "recording" and place.recordings.active == 1
        assert place.sent(Record) == [Record("c1", str(place.folder), 1, False)]
        place.see(0, False)  # before a key frame
        place.hear(5)
        place.see(3, True, start=0xFFFFF000)
        place.part(over=False)
        assert place.sent(RecordedSound) == [RecordedSound("c1", 5, 2, 8000, b"1234")]
        assert place.sent(RecordedPicture) == [RecordedPicture("c1", 3 * 3600, True, b"picture")]
        with pytest.raises(RecordingRefused, match="is being recorded already"):
            place.recordings.record(call)
        call.on_end(ENDED)
        assert place.taps.heard is None and place.sent(EndRecording) == [EndRecording("c1")]
        place.part(over=True, seconds=4.0)
        place.recordings._take(RecordingEnded("c1"))
        told = [events.get_nowait().as_dict() for _ in range(3)]
    kinds = [event["event"] for event in told]
    assert kinds == ["recording_started", "ended", "recording_stopped"]
    assert told[0]["recording_id"] == "c1-1" and (told[2]["parts"], told[2]["seconds"]) == (1, 4.0)
    (part,) = await place.listed()
    assert (part.state, part.size, part.width, part.encrypted) == ("whole", 1000, 512, False)
    recordings = place.recordings
    assert (recordings.active, recordings.seconds, recordings.octets) == (0, 4.0, 1000)
    assert recordings.kept.waiting == 1  # nobody moves files here


async def test_nothing_of_a_pause_is_handed_on(make: Make) -> None:
    place = make(RecordingSettings(pause_key="*"))
    call = place.call()
    place.recordings.record(call)
    place.hear(0)
    place.see(0, True)
    call.on_dtmf("1")
    call.on_dtmf("*")
    assert place.recordings.state_of("c1") == "paused"
    place.hear(1)
    place.see(1, True)
    call.on_dtmf("*")
    place.hear(2)
    place.see(2, False)  # refers to what was left out
    place.see(3, True)
    assert [(sound.piece, sound.payload) for sound in place.sent(RecordedSound)] == [
        (0, b"1234"),
        (1, b""),  # a long pause is written as it goes, not all at once at its end
        (2, b"1234"),
    ]
    assert [picture.ticks // 3600 for picture in place.sent(RecordedPicture)] == [0, 3]
    assert place.taps.keyframes == 2  # one was asked for


async def test_a_recorder_that_dies_is_followed_by_a_part_of_its_own(make: Make) -> None:
    place = make()
    call = place.call()
    place.recordings.record(call)
    place.hear(0)
    place.part(over=False)
    (place.folder / "c1-1.mp4").write_bytes(b"x" * 77)
    place.hear(149)
    place.recordings._lost("the recorder was killed by SIGKILL", 0.1)
    (part,) = await place.listed()
    assert (part.state, part.size, part.seconds) == ("cut", 77, pytest.approx(3.0, abs=0.01))
    place.recordings._begun(None)  # type: ignore[arg-type]
    assert place.sent(Record)[-1].number == 2 and place.recordings.state_of("c1") == "recording"
    place.child.there = False
    assert place.recordings.stop("c1")  # while there is no recorder
    assert place.recordings.state_of("c1") == "off"
    place.recordings.record(call)


async def test_a_full_disk_ends_a_recording_and_says_so(make: Make) -> None:
    place = make()
    call = place.call()
    async with place.bus.listen() as events:
        place.recordings.record(call)
        place.part(over=False)
        place.recordings._take(RecordingFailed("c1", "it cannot be written: no space left on device"))
        told = [events.get_nowait().as_dict() for _ in range(2)]
    assert told[1]["event"] == "recording_stopped" and "no space left" in told[1]["reason"]
    assert (place.recordings.failures, place.recordings.state_of("c1")) == (1, "off")
    assert call.ended_at is None


async def test_what_is_said_in_a_pause_is_left_out_also_where_the_recording_ends_in_it(make: Make) -> None:
    place = make()
    call = place.call()
    place.recordings.record(call)
    place.recordings.pause("c1", True)
    said = time.time()
    place.recordings.stop("c1")
    assert call.unkept(said - 0.001) and not call.unkept(time.time() + 1)
    place.recordings._take(RecordingEnded("c1"))
    place.recordings.record(call)
    place.recordings.pause("c1", True)
    place.recordings._take(RecordingFailed("c1", "the disk is full"))
    assert place.recordings.state_of("c1") == "off" and call.unkept(time.time() + 1)
    place.recordings.record(call)
    assert not call.unkept(time.time() + 1)


async def test_every_call_is_recorded_where_it_is_set(make: Make) -> None:
    place = make(RecordingSettings(every=True))
    call = place.call()
    place.recordings.begun(call)
    assert place.recordings.state_of("c1") == "recording"


async def test_an_announcement_that_is_spoken_over_is_said_again(make: Make) -> None:
    place = make(RecordingSettings(every=True, announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())
    call._language = "en"
    place.recordings.begun(call)
    for number in range(1, 4):
        await until(lambda: len(call.turns) == number)  # noqa: B023
        report(call, "started", number)
        report(call, "interrupted" if number < 3 else "finished", number, 40.0)
    await asyncio.sleep(0.05)
    assert [turn.state for turn in call.turns] == ["interrupted", "interrupted", "finished"]
    assert not call.spoken


async def test_an_announcement_is_no_more_said_once_the_recording_is_over(make: Make) -> None:
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())
    call._language = "en"
    place.recordings.record(call)
    report(call, "started", 1)
    place.recordings.stop("c1")
    call.interrupt()
    report(call, "interrupted", 1, 40.0)
    await asyncio.sleep(0.05)
    assert len(call.turns) == 1


class Mute:
    sample_rate = 8000

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        raise SpeechError("the voice is away")
        yield


async def _ended_unheard(
    place: Place, call: Call, spoil: Callable[[], Awaitable[None]], *, recorder: bool = True
) -> dict[str, Any]:
    """What is told at the end of a recording that begins with its announcement, which ``spoil`` ends."""
    call._language = "en"
    place.recordings.start(place.supervisor)
    async with place.bus.listen() as events:
        place.recordings.record(call)
        place.hear(0)
        place.part(over=False)
        file = place.folder / "c1-1.mp4"
        file.write_bytes(b"what the caller said")
        place.child.there = recorder
        await spoil()
        await until(lambda: place.recordings.state_of("c1") == "off")
        if recorder:
            place.part(over=True, seconds=4.0)
            place.recordings._take(RecordingEnded("c1"))
        await until(lambda: not file.exists() and place.recordings.kept.waiting == 0)
        while (told := (await events.get()).as_dict())["event"] != "recording_stopped":
            pass
    assert await place.listed() == [] and place.taps.heard is None
    return told


@pytest.mark.parametrize("recorder", [True, False])
async def test_nothing_is_kept_of_a_call_whose_caller_never_heard_the_announcement_out(
    make: Make, recorder: bool, caplog: pytest.LogCaptureFixture
) -> None:
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())

    async def interrupted() -> None:
        for number in range(1, 4):
            await until(lambda: len(call.turns) == number)  # noqa: B023
            report(call, "started", number)
            report(call, "interrupted", number, 40.0)

    told = await _ended_unheard(place, call, interrupted, recorder=recorder)
    why = "what was recorded is erased, since the announcement was not heard to its end: it was spoken over"
    assert (told["parts"], told["seconds"], told["reason"]) == (0, 0, why)
    assert place.recordings.failures == 1 and call.ended_at is None
    assert [each.getMessage() for each in caplog.records].count("recording_dropped") == 1


async def test_nothing_is_kept_where_the_voice_of_the_announcement_fails(make: Make) -> None:
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Mute}), place.bus, Peer())
    told = await _ended_unheard(place, call, lambda: asyncio.sleep(0))
    assert told["reason"].endswith("to its end: the voice is away") and len(call.turns) == 3


async def test_nothing_is_kept_where_the_announcement_has_no_sound(make: Make) -> None:
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())

    async def without_a_sound() -> None:
        for number in range(1, 4):
            await until(lambda: len(call.turns) == number)  # noqa: B023
            report(call, "finished", number, 0.0)

    told = await _ended_unheard(place, call, without_a_sound)
    assert told["reason"].endswith("to its end: it has no sound")


async def test_nothing_is_kept_of_who_hangs_up_during_the_announcement(make: Make) -> None:
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())

    async def hangs_up() -> None:
        await until(lambda: len(call.turns) == 1)
        report(call, "started", 1)
        call.on_end(ENDED)

    told = await _ended_unheard(place, call, hangs_up)
    assert told["reason"].endswith("was not heard to its end") and place.recordings.failures == 0


async def test_nothing_is_kept_of_an_announcement_that_our_own_end_cuts(make: Make) -> None:
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())
    call._language = "en"
    place.recordings.record(call)
    place.hear(0)
    place.part(over=False)
    (place.folder / "c1-1.mp4").write_bytes(b"what the caller said")
    await until(lambda: place.archive.status.waiting == 0)
    await place.recordings.close()
    call.on_end(ENDED)
    assert not (place.folder / "c1-1.mp4").exists() and await place.listed() == []


async def test_no_recording_begins_where_nobody_can_announce_it(make: Make) -> None:
    place = make(RecordingSettings(every=True, announcement="This call is recorded."))
    call = place.call()
    with pytest.raises(RecordingRefused, match="announcement of the recording cannot be said: no voice"):
        place.recordings.record(call)
    place.recordings.begun(call)
    assert place.recordings.state_of("c1") == "off" and place.sent(Record) == []
    call.play(Voice().stream("", ""), 8000)
    assert call.spoken


async def test_what_was_announced_is_kept(make: Make) -> None:
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())
    call._language = "en"
    place.recordings.record(call)
    place.part(over=False)
    await until(lambda: len(call.turns) == 1)
    report(call, "started", 1)
    report(call, "finished", 1, 100.0)
    call.on_end(ENDED)
    place.part(over=True, seconds=4.0)
    place.recordings._take(RecordingEnded("c1"))
    assert [each.state for each in await place.listed()] == ["whole"]


def part(
    number: int,
    began_at: float,
    size: int = 100,
    place: str = "",
    state: Literal["whole", "recording"] = "whole",
) -> RecordingPart:
    return RecordingPart(f"c{number}", 1, began_at, 2.0, size, 0, 0, state, place, False)


async def test_the_old_and_the_large_are_erased_with_their_files(make: Make) -> None:
    place = make(RecordingSettings(days=0, most_bytes=250))
    own = place.recordings.kept.store.place
    for number in range(4):
        place.archive.keep_recording(part(number, 1000.0 + number, place=own))
        (place.folder / f"c{number}-1.mp4").write_bytes(bytes(100))
    place.archive.keep_recording(part(9, 1.0, place="folder of another"))
    await until(lambda: place.archive.status.waiting == 0)
    due = await place.archive.recordings_due(own, 0, 250)
    assert [each.call_id for each in due] == ["c0", "c1"]
    await place.recordings.kept._retain()
    assert [each.call_id for each in await place.listed()] == ["c3", "c2", "c9"]
    assert sorted(each.name for each in place.folder.glob("*.mp4")) == ["c2-1.mp4", "c3-1.mp4"]


async def test_recordings_are_erased_with_their_record_but_not_elsewhere(make: Make) -> None:
    place = make()
    own = place.recordings.kept.store.place
    for number, where in ((1, own), (2, "folder of another")):
        place.archive.keep_recording(part(number, 1000.0, place=where))
        place.archive.keep_record(record(f"c{number}"))
    (place.folder / "c1-1.mp4").write_bytes(b"x")
    await until(lambda: place.archive.status.waiting == 0)
    assert await place.archive.erase(["c1"]) == 1
    assert not (place.folder / "c1-1.mp4").exists()
    with pytest.raises(RecordingRefused, match="another orchestrator's folder"):
        await place.archive.erase(["c2"])
    assert [each.call_id for each in await place.listed()] == ["c2"]
    assert await place.archive.record("c2") is not None


async def test_what_was_recorded_by_an_orchestrator_that_is_no_more_ends_in_its_time(make: Make) -> None:
    place = make(RecordingSettings(days=30.0))
    own, now = place.recordings.kept.store.place, time.time()
    for number, days, where in (
        (1, 38, "folder gone"),
        (2, 36, "folder down"),
        (3, 38, own),
        (4, 38, "s3://a"),
    ):
        place.archive.keep_recording(part(number, now - days * 86_400, place=where))
        place.archive.keep_record(record(f"c{number}", now - days * 86_400))
    await until(lambda: place.archive.status.waiting == 0)
    place.archive.place = own
    place.archive._retention = Retention(days=35)
    assert place.archive._due() == ["c3"]
    place.supervisor.keep("abandoned", place.recordings.kept._forget_abandoned)
    while len(await place.listed()) > 3:
        await asyncio.sleep(0.01)
    assert {each.call_id for each in await place.listed()} == {"c2", "c3", "c4"}
    assert sorted(place.archive._due()) == ["c1", "c3"]


async def test_recordings_that_are_kept_for_ever_are_nowhere_abandoned(make: Make) -> None:
    place = make(RecordingSettings(days=0))
    place.archive.keep_recording(part(1, 1000.0, place="folder gone"))
    await until(lambda: place.archive.status.waiting == 0)
    place.recordings.start(place.supervisor)
    await asyncio.sleep(0.1)
    assert len(await place.listed()) == 1 and not place.folder.exists()


async def test_a_folder_from_before_there_was_a_bucket_is_still_ours(tmp_path: Path) -> None:
    before = Store(tmp_path / "recordings")
    assert before.places == set() and not before.folder.exists()
    folder = before.place
    after = Bucket(before.folder)
    assert before.places == {folder} and after.places == {folder, "s3://calls"}


async def test_what_a_killed_orchestrator_left_is_closed_by_the_next(make: Make) -> None:
    place = make()
    own = place.recordings.kept.store.place
    left = RecordingPart("c1", 1, 1000.0, 0.0, 0, 512, 512, "recording", own, False)
    place.archive.keep_recording(left)
    (place.folder / "c1-1.mp4").write_bytes(bytes(5000))
    await until(lambda: place.archive.status.waiting == 0)
    await place.recordings.kept._sweep()
    (found,) = await place.listed()
    assert (found.state, found.size) == ("cut", 5000) and found.seconds > 0


async def test_what_no_database_ever_heard_of_is_listed_all_the_same(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_PAGE", 2)
    place = make(RecordingSettings(most_bytes=350))
    own = place.recordings.kept.store.place
    for number in range(3):
        place.archive.keep_recording(part(number, 1000.0 + number, place=own))
        (place.folder / f"c{number}-1.mp4").write_bytes(bytes(100))
    (place.folder / "0123456789ab-2.mp4").write_bytes(b"VISAVIS1" + bytes(42))
    for name in ("holiday", "holiday-2", "VID-20231130", f"0123456789ab-{'9' * 30}"):  # somebody's own
        (place.folder / f"{name}.mp4").write_bytes(bytes(100))
    await until(lambda: place.archive.status.waiting == 0)
    await place.recordings.kept._sweep()
    found = (await place.listed())[0]
    assert (found.recording_id, found.state, found.size, found.encrypted) == (
        "0123456789ab-2",
        "cut",
        50,
        True,
    )
    assert abs(found.began_at - time.time()) < 60 and len(await place.listed()) == 4
    await until(lambda: place.archive.status.waiting == 0)
    assert await place.archive.recordings_due(own, 0, 349) == [part(0, 1000.0, place=own)]


async def test_who_never_records_gets_no_folder(make: Make) -> None:
    place = make()
    place.recordings.start(place.supervisor)
    await until(lambda: place.archive.status.state == "ready")
    assert not place.folder.exists()


class Bucket(Store):
    """A store that others use, too."""

    moves = True  # type: ignore[assignment]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._url = "s3://calls"
        self.taken: list[str] = []

    async def take(self, name: str) -> None:
        self.taken.append(name)


async def test_what_another_orchestrator_records_into_the_same_store_is_left_alone(make: Make) -> None:
    place = make()
    place.recordings.kept.store = Bucket(place.folder)
    now = time.time()
    place.archive.keep_recording(part(1, now - 60, 0, "s3://calls", "recording"))
    place.archive.keep_recording(part(2, now - 60, 0, "s3://calls", "recording"))
    place.archive.keep_recording(part(3, now - 3 * 86_400, 0, "s3://calls", "recording"))
    place.folder.mkdir()
    (place.folder / "c2-1.mp4").write_bytes(bytes(50))  # ours, before we were killed
    await until(lambda: place.archive.status.waiting == 0)
    await place.recordings.kept._sweep()
    found = {each.call_id: each.state for each in await place.listed()}
    assert found == {"c1": "recording", "c2": "cut", "c3": "cut"}  # nobody finishes the last one any more


async def test_what_was_recorded_before_there_was_a_bucket_is_moved_erased_and_ends_there(make: Make) -> None:
    place = make()
    folder = place.recordings.kept.store.place
    store = place.recordings._store = place.recordings.kept.store = Bucket(place.folder)
    for number, state in ((1, "whole"), (2, "recording")):
        place.archive.keep_recording(part(number, time.time() - 2 * 86_400, 50, folder, state))
        (place.folder / f"c{number}-1.mp4").write_bytes(bytes(50))
    place.archive.keep_recording(part(3, 1000.0, 50, "folder of another"))
    await until(lambda: place.archive.status.waiting == 0)
    await place.recordings.kept._sweep()
    found = {each.call_id: (each.place, each.state) for each in await place.listed()}
    assert found == {
        "c1": ("s3://calls", "whole"),
        "c2": ("s3://calls", "cut"),
        "c3": ("folder of another", "whole"),
    }
    place.supervisor.keep("moving", place.recordings.kept._move)
    await until(lambda: sorted(store.taken) == ["c1-1.mp4", "c2-1.mp4"])


async def test_what_was_erased_while_it_waited_is_moved_nowhere(make: Make) -> None:
    place = make()
    store = place.recordings.kept.store = Bucket(place.folder)
    place.folder.mkdir()
    for number in (1, 2):
        (place.folder / f"c{number}-1.mp4").write_bytes(b"x")
        place.recordings.kept.keep(part(number, 1000.0, place="s3://calls"))
    await until(lambda: place.archive.status.waiting == 0)
    await place.archive._ask(lambda: place.archive._database.erase(["c1"]))  # by another orchestrator
    place.supervisor.keep("moving", place.recordings.kept._move)
    await until(lambda: place.recordings.kept.waiting == 0)
    assert store.taken == ["c2-1.mp4"] and not (place.folder / "c1-1.mp4").exists()


@pytest.mark.parametrize("heard", [True, False])
async def test_nothing_is_moved_before_its_announcement_was_heard(make: Make, heard: bool) -> None:
    """A bucket may keep versions of what is erased there."""
    place = make(RecordingSettings(announcement="This call is recorded."))
    call = answered_call(VoiceByLanguage({"en": Voice}), place.bus, Peer())
    call._language = "en"
    store = place.recordings._store = place.recordings.kept.store = Bucket(place.folder)
    place.supervisor.keep("moving", place.recordings.kept._move)
    place.recordings.record(call)
    place.part(over=True, seconds=1.0)  # its picture has another size now
    place.part(2, over=False)
    await until(lambda: len(call.turns) == 1 and place.archive.status.waiting == 0)
    await asyncio.sleep(0.02)
    assert store.taken == []
    report(call, "started", 1)
    if heard:
        report(call, "finished", 1, 100.0)
        await until(lambda: store.taken == ["c1-1.mp4"])
    call.on_end(ENDED)
    place.part(2, over=True, seconds=4.0)
    await asyncio.sleep(0.02)
    place.recordings._take(RecordingEnded("c1"))
    if heard:
        await until(lambda: store.taken == ["c1-1.mp4", "c1-2.mp4"])
    await until(lambda: place.recordings.kept.waiting == 0)
    assert [each.number for each in await place.listed()] == ([2, 1] if heard else [])
    assert heard or store.taken == []


async def test_a_recording_that_is_being_closed_is_not_erased_before(make: Make) -> None:
    place = make()
    call = place.call()
    place.recordings.record(call)
    place.hear(0)
    place.part(over=False)
    call.on_end(ENDED)
    place.archive.keep_record(record("c1"))
    await until(lambda: place.archive.status.waiting == 0)
    with pytest.raises(RecordingRefused, match="is being closed: try again"):
        await place.archive.erase(["c1"])
    place.part(over=True, seconds=1.0)
    place.recordings._take(RecordingEnded("c1"))
    assert await place.archive.erase(["c1"]) == 1
    assert await place.listed() == []


async def test_records_whose_recordings_cannot_be_erased_now_are_tried_again(make: Make) -> None:
    place = make()
    own = place.recordings.kept.store.place
    place.archive._retention = Retention(most=1)
    for number in range(2):
        place.archive.keep_recording(part(number, 1000.0 + number, place=own))
        place.archive.keep_record(record(f"c{number}", 1000.0 + number))
    place.archive.place = own

    async def away(name: str) -> None:
        raise StoreAway("the store of recordings does not do it")

    place.recordings.kept.store.delete = away  # type: ignore[method-assign]
    await until(lambda: place.archive.status.waiting == 0)
    failed: list[str] = []
    place.supervisor.on_failure = lambda task, reason: failed.append(task)
    task = place.supervisor.keep("retention again", place.archive._retain)
    await asyncio.sleep(0.2)
    assert failed == [] and not task.done()
    assert await place.archive.record("c0") is not None
