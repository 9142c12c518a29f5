"""Prepared avatars in the engine's memory: attached on demand, the least recently used leave."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from inference_server.avatars.store import AvatarStore, StoredAvatar
from inference_server.engine import messages as m
from inference_server.engine.process import EngineProcess
from inference_server.engine.renderer import Resident
from inference_server.errors import RequestError, unavailable
from visavis.frames import Rect


class Residency:
    """Attaches avatars; those of open streams stay, others make room."""

    def __init__(self, engine: EngineProcess, store: AvatarStore, memory_bytes: int) -> None:
        self._engine = engine
        self._store = store
        self._memory = memory_bytes
        self._residents: OrderedDict[str, Resident] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[Resident]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of everything attached."""
        return sum(r.nbytes for r in self._residents.values())

    def __len__(self) -> int:
        return len(self._residents)

    async def acquire(self, avatar: StoredAvatar) -> Resident:
        """The avatar attached, for one more stream. Raises :class:`RequestError`."""
        while True:
            resident = self._residents.get(avatar.avatar_id)
            if resident is None:
                try:
                    resident = await self._attach(avatar)
                except _Full as full:
                    if not self._evict_one():
                        raise RequestError(
                            "resource_exhausted", f"{full.args[0]} Try another server."
                        ) from None
                    continue
            resident.users += 1
            self._store.pin(avatar.avatar_id)
            self._residents.move_to_end(avatar.avatar_id)
            self._shrink()
            return resident

    def release(self, resident: Resident) -> None:
        """One stream less uses it."""
        resident.users -= 1
        self._store.unpin(resident.avatar_id)
        self._shrink()

    def handle(self, message: m.Attached | m.Failed) -> None:
        """The engine's answer."""
        key = message.avatar_id if isinstance(message, m.Attached) else message.key
        waiting = self._waiting.pop(key, None)
        if isinstance(message, m.Attached):
            resident = Resident(
                key, Rect(*message.largest), [Rect(*rect) for rect in message.rects], message.nbytes
            )
            self._residents[key] = resident
            if waiting is not None and not waiting.done():
                waiting.set_result(resident)
        elif waiting is not None and not waiting.done():
            if message.kind == "NoMemory":
                waiting.set_exception(_Full(message.sentence))
            else:
                waiting.set_exception(
                    RequestError("internal", f"The engine cannot use this avatar: {message.sentence}.")
                )

    def engine_down(self, sentence: str) -> None:
        """Nothing is attached any more."""
        self._residents.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(
                    unavailable(f"The engine stopped ({sentence}): try again soon or elsewhere.")
                )
        self._waiting.clear()

    async def _attach(self, avatar: StoredAvatar) -> Resident:
        waiting = self._waiting.get(avatar.avatar_id)
        if waiting is None:
            if self._engine.loaded is None:
                raise unavailable(
                    f"The engine is not ready ({self._engine.reason}): try again soon or elsewhere."
                )
            waiting = self._waiting[avatar.avatar_id] = asyncio.get_running_loop().create_future()
            waiting.add_done_callback(
                lambda f: f.cancelled() or f.exception()
            )  # nobody may be left to see it
            self._engine.send(m.Attach(avatar.avatar_id, str(avatar.folder), str(avatar.body_folder)))
        return await asyncio.shield(waiting)

    def _shrink(self) -> None:
        while self.nbytes > self._memory and self._evict_one():
            pass

    def _evict_one(self) -> bool:
        for avatar_id, resident in self._residents.items():
            if not resident.users:
                del self._residents[avatar_id]
                self._engine.send(m.Detach(avatar_id))
                return True
        return False


class _Full(Exception):
    """The engine has no memory for one more."""
