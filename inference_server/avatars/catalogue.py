"""The avatars of one server: prepared, found, exported and imported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from inference_server.avatars import bundle
from inference_server.avatars.arrays import Damaged
from inference_server.avatars.preparation import PreparationQueue, PrepareRequest
from inference_server.avatars.store import AvatarStore, StoredAvatar
from inference_server.engine.devices import EngineDevices
from inference_server.errors import RequestError, invalid, unavailable
from inference_server.metrics import Metrics
from inference_server.settings import Settings
from visavis.service.logs import Log

IMPORTS = 2  # bundles that come in at once
IMPORT_S = 300.0  # what one may take, with its wait


class Catalogue:
    """What this server's engine can draw. ``ids`` names everything prepared here."""

    def __init__(
        self, settings: Settings, store: AvatarStore, engine: EngineDevices, metrics: Metrics, log: Log
    ) -> None:
        self.ids: set[str] = set()
        self.preparation = PreparationQueue(settings, store, engine, log, self._added)
        self._settings = settings
        self._store = store
        self._engine = engine
        self._metrics = metrics
        self._log = log
        self._imports = asyncio.Semaphore(IMPORTS)

    def look(self) -> None:
        """See what is on disk for the engine that has just been loaded."""
        if self._engine.loaded is not None:
            info = self._engine.loaded.info
            self.ids = set(self._store.avatar_ids(info["name"], info["build"]))

    async def close(self) -> None:
        """Give up what is being prepared."""
        await self.preparation.close()

    def prepare(self, request: PrepareRequest) -> AsyncGenerator[float | StoredAvatar, None]:
        """Progress, then the avatar. Raises :class:`RequestError`."""
        with request.let_go():
            self.check_size(request.width, request.height)
            if not 1 <= request.fps <= 60:
                raise invalid(f"fps must be 1 to 60, not {float(request.fps):g}: try 25.")
            if request.fps.denominator > 100_000:
                raise invalid("fps must be a plain fraction such as 25/1 or 30000/1001.")
        return self.preparation.prepare(request)

    def check_size(self, width: int, height: int) -> None:
        """Raise where no avatar can have this size."""
        s = self._settings
        most = (s.max_width, s.max_height)
        if self._engine.loaded is not None:
            info = self._engine.loaded.info
            most = (min(most[0], info["max_width"]), min(most[1], info["max_height"]))
        if width < 64 or height < 64 or width > most[0] or height > most[1]:
            raise invalid(f"{width}x{height} is not possible here: take 64x64 to {most[0]}x{most[1]}.")
        if width % 2 or height % 2:
            raise invalid(
                f"width and height must be even, and {width}x{height} is not: try {width & ~1}x{height & ~1}."
            )

    async def get(self, avatar_id: str) -> StoredAvatar:
        """A prepared avatar of this engine. Raises ``not_found``."""
        avatar = await asyncio.to_thread(self._store.avatar, avatar_id)
        info = self._engine.loaded.info if self._engine.loaded else None
        if avatar is None or (info and (avatar.engine, avatar.build) != (info["name"], info["build"])):
            self.ids.discard(avatar_id)
            shown = avatar_id[:64] or "(empty)"
            raise RequestError(
                "not_found",
                f"Avatar {shown} is not prepared on this server: prepare or import it here, then again.",
            )
        return avatar

    async def export_avatar(self, avatar_id: str) -> AsyncIterator[bytes]:
        """The avatar as a bundle, in chunks."""
        avatar = await self.get(avatar_id)
        self._store.pin(avatar_id)
        try:
            chunks = bundle.write(avatar)
            while chunk := await asyncio.to_thread(next, chunks, b""):
                yield chunk
        finally:
            self._store.unpin(avatar_id)

    async def import_avatar(self, chunks: AsyncIterator[bytes]) -> StoredAvatar:
        """An avatar out of a bundle. Raises :class:`RequestError`."""
        loaded = self._engine.loaded
        if loaded is None:
            raise unavailable(
                f"The engine is not ready ({self._engine.reason}): try again soon or elsewhere."
            )
        scratch = self._store.scratch()
        try:
            async with asyncio.timeout(IMPORT_S), self._imports:
                await self._receive(chunks, scratch / "bundle")
            avatar = await asyncio.to_thread(
                bundle.install, self._store, scratch, loaded.info["name"], loaded.info["build"]
            )
        except TimeoutError:
            raise RequestError(
                "deadline_exceeded", f"The bundle did not come within {IMPORT_S:g} s: send it again."
            ) from None
        except Damaged as error:
            raise invalid(f"The bundle is damaged ({error}): export it again.") from None
        finally:
            await asyncio.to_thread(self._store.discard, scratch)
        self._added(avatar.avatar_id)
        self._log.info("avatar_imported", avatar_id=avatar.avatar_id)
        return avatar

    async def _receive(self, chunks: AsyncIterator[bytes], path: Path) -> None:
        with path.open("wb") as file:
            size = 0
            async for chunk in chunks:
                size += len(chunk)
                if size > self._settings.bundle_bytes:
                    raise invalid(
                        f"The bundle is larger than the {self._settings.bundle_bytes} bytes taken here."
                    )
                await asyncio.to_thread(file.write, chunk)

    def _added(self, avatar_id: str) -> None:
        self.ids = {each for each in self.ids if self._store.holds(each)} | {avatar_id}  # some made room
        self._metrics.preparations.labels("prepared").inc()
