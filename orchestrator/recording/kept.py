"""Recordings that are kept: found, erased by request, age and size, moved to where they belong."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.archive.archive import Archive
from orchestrator.archive.database import DatabaseAway
from orchestrator.archive.entries import NotErased, RecordingPart
from orchestrator.recording.store import Store, StoreAway
from visavis.service.logs import Log
from visavis.service.supervisor import Supervisor

log = Log(__name__)

_RETENTION_S = 600.0
_AGAIN_S = 30.0
_GONE_DAYS = 7.0
"""Beyond their age, until recordings in another's folder are nobody's: it looks after them every ten minutes."""
_PAGE = 1000
_LONGEST_S = 86_400.0
"""Of a recording that somebody else may still be writing."""
_OURS = re.compile(r"(?P<call_id>[0-9a-f]{12})-(?P<number>[1-9]\d{0,5})\.mp4", re.ASCII)
"""Names of our files: others in the folder are no business of ours."""


class RecordingRefused(NotErased):
    """What is asked cannot be done with this recording: one sentence."""


class KeptRecordings:
    """Files in ``store`` and their list in ``archive``, for ``days`` (0: for ever) and up to ``most_bytes``.

    ``under_way`` says whether a call, by its id, is being recorded now.
    """

    def __init__(
        self, archive: Archive, store: Store, under_way: Callable[[str], bool], days: float, most_bytes: int
    ) -> None:
        self._archive, self.store = archive, store
        self._under_way = under_way
        self._days, self._most_bytes = days, most_bytes
        self._to_move: asyncio.Queue[RecordingPart] = asyncio.Queue()
        self._moving = 0
        self._dropped: dict[str, RecordingPart] = {}
        archive.before_erasing = self._erase_files

    def start(self, supervisor: Supervisor) -> None:
        """Begin to erase and to move."""
        supervisor.keep("recordings", self._look_after)
        supervisor.keep("moving of recordings", self._move)
        if self._days:
            supervisor.keep("recordings of nobody", self._forget_abandoned)

    @property
    def waiting(self) -> int:
        """Files that are whole and not where they belong yet."""
        return self._to_move.qsize() + self._moving

    def keep(self, part: RecordingPart, move: bool = True) -> None:
        """A part that grows, or is whole or cut; these are moved, if they may be by now."""
        self._archive.keep_recording(part)
        if part.state != "recording" and move:
            self._to_move.put_nowait(part)

    def drop(self, part: RecordingPart) -> None:
        """Leave nothing of a part that is over, as soon as that can be done."""
        self._dropped[part.recording_id] = part
        self._to_move.put_nowait(part)

    async def close(self) -> None:
        """Erase what is to be dropped, as far as that can be done now."""
        for part in list(self._dropped.values()):
            try:
                await self._drop(part)
            except (NotErased, DatabaseAway) as error:
                log.error("recording_not_erased", recording=part.recording_id, reason=str(error))

    async def find(self, recording_id: str) -> RecordingPart | None:
        """A part. Raises :class:`DatabaseAway`."""
        call_id, _, number = recording_id.rpartition("-")
        parts = await self._archive.recordings(1000, call_id)
        return next((part for part in parts if str(part.number) == number), None)

    async def erase(self, part: RecordingPart) -> None:
        """Leave nothing of a part. Raises :class:`RecordingRefused`, :class:`StoreAway`, :class:`DatabaseAway`."""
        self.check_here(part)
        if part.state == "recording" and self._under_way(part.call_id):
            raise RecordingRefused(f"recording '{part.recording_id}' goes on: stop it first")
        await self.store.delete(f"{part.recording_id}.mp4")
        await self._archive.erase_recordings([part])

    def check_here(self, part: RecordingPart) -> None:
        """Raises :class:`RecordingRefused` for a part in another orchestrator's folder."""
        if part.place != self.store.place:
            raise RecordingRefused(
                f"recording '{part.recording_id}' lies in another orchestrator's folder: ask that one"
            )

    async def _erase_files(self, call_ids: Sequence[str]) -> None:
        for call_id in call_ids:
            if self._under_way(call_id):  # or it would be listed once more, without its file
                raise RecordingRefused(f"the recording of call '{call_id}' is being closed: try again")
            for part in await self._archive.recordings(1000, call_id):
                self.check_here(part)
                await self.store.delete(f"{part.recording_id}.mp4")

    async def _look_after(self) -> None:
        """Close the books of an orchestrator that was killed; then erase what is too old or too much."""
        swept = False
        while True:
            if self.store.used:
                with contextlib.suppress(DatabaseAway, StoreAway):
                    self._archive.place = self.store.place
                    if not swept:
                        await self._sweep()
                        swept = True
                    await self._retain()
            await asyncio.sleep(_RETENTION_S if swept else _AGAIN_S)

    async def _retain(self) -> None:
        place, days, most = self.store.place, self._days, self._most_bytes
        while due := await self._archive.recordings_due(place, days, most):
            for part in due:
                await self.store.delete(f"{part.recording_id}.mp4")
            await self._archive.erase_recordings(due)
            log.info("recordings_erased", parts=len(due))

    async def _forget_abandoned(self) -> None:
        """Take parts off the list whose orchestrator is no more: it would have erased them long since. Else their
        calls' records and transcripts were kept for ever."""
        while True:
            with contextlib.suppress(DatabaseAway, OSError):
                while gone := await self._archive.abandoned(self.store.places, self._days + _GONE_DAYS):
                    await self._archive.erase_recordings(gone)
                    log.warning(
                        "recordings_abandoned", parts=len(gone), places=len({part.place for part in gone})
                    )
            await asyncio.sleep(_RETENTION_S)

    async def _sweep(self) -> None:
        here = self.store.place
        places = self.store.places
        for place in places:
            for part in await self._archive.unfinished(place):
                size, at = self.store.written(f"{part.recording_id}.mp4")
                elsewhere = self.store.moves and not at and time.time() - part.began_at < _LONGEST_S
                if not (elsewhere or self._under_way(part.call_id)):
                    seconds = max(0.0, round(at - part.began_at, 3))
                    self._archive.keep_recording(replace(part, state="cut", size=size, seconds=seconds))
        if self.store.moves:
            from_before = places - {here}  # the folder, where there was no bucket yet
            for part in await self._archive.recordings(10_000):
                if part.state == "recording":
                    continue
                if part.place in from_before:
                    self._archive.keep_recording(replace(part, place=here))
                if self.store.written(f"{part.recording_id}.mp4")[0]:
                    self._to_move.put_nowait(part)
        else:
            await self._find_unlisted()

    async def _find_unlisted(self) -> None:
        """List files whose orchestrator was killed before the database, which was away, had them."""
        names = self.store.names()  # before they are listed: what is recorded meanwhile is in no need
        listed, after = set[str](), None
        while page := await self._archive.recordings(_PAGE, after=after):
            listed |= {part.recording_id for part in page}
            after = page[-1].began_at, page[-1].call_id, page[-1].number
        for name in names:
            call_id, number = found.groups() if (found := _OURS.fullmatch(name)) else ("", "")
            size, at = self.store.written(name)
            if not call_id or not at or f"{call_id}-{number}" in listed or self._under_way(call_id):
                continue
            where, sealed = self.store.place, self.store.sealed(name)
            part = RecordingPart(call_id, int(number), at, 0.0, size, 0, 0, "cut", where, sealed)
            self._archive.keep_recording(part)
            log.warning("recording_found", recording=f"{call_id}-{number}")

    async def _move(self) -> None:
        """Files that are whole go where they belong; where that is away they wait."""
        while True:
            self._moving = 0
            part = await self._to_move.get()
            self._moving = 1
            while True:
                try:
                    if part.recording_id in self._dropped:
                        await self._drop(part)
                    elif await self._erased(part):
                        await self.store.delete(f"{part.recording_id}.mp4")
                    else:
                        await self.store.take(f"{part.recording_id}.mp4")
                    break
                except (StoreAway, DatabaseAway) as error:
                    log.error("recording_not_moved", recording=part.recording_id, reason=str(error))
                    await asyncio.sleep(_AGAIN_S)

    async def _drop(self, part: RecordingPart) -> None:
        await self.erase(part)
        self._dropped.pop(part.recording_id, None)

    async def _erased(self, part: RecordingPart) -> bool:
        """Whether another orchestrator of the same store has erased it meanwhile, and it was not left out."""
        if not self.store.moves or self._archive.status.lost:
            return False
        return await self.find(part.recording_id) is None
