"""Pictures and videos on their way in: they go to disk piece by piece, and few at once are in memory whole.

Memory for them is bounded: ``PLACES`` pieces of a transport's size, and one file where a client sends whole ones
(``PrepareAvatar``, JSON); gRPC has it three times while it makes bytes of its slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from inference_server.errors import RequestError
from inference_server.fair_turns import FairTurns

PLACES = 8
WAIT_S = 60.0
RECEIVE_S = 30.0
HEAD = 64 << 10


class Upload:
    """A file of a client's in a folder of its own, which goes with it: ``discard`` it, or let it go.

    ``head``: its first 64 KiB. ``digest``: SHA-256 of all that has been written so far.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "file"
        self.size = 0
        self.head = b""
        self._sha256 = hashlib.sha256()
        self.discard = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path.touch()

    @property
    def digest(self) -> bytes:
        return self._sha256.digest()

    def append(self, data: bytes) -> None:
        """One piece. Raises ``OSError``."""
        with open(self.path, "ab", opener=_existing) as file:
            file.write(data)
        self.size += len(data)
        self.head += data[: HEAD - len(self.head)]
        self._sha256.update(data)


def _existing(path: str, flags: int) -> int:
    """Of a file that is discarded while a thread comes to write nothing is made again."""
    return os.open(path, flags & ~os.O_CREAT)


class Uploads:
    """Whoever has no place yet is not read from: its sender waits, and what it sends stays with it.

    ``scratch`` makes a folder for a file. Raises :class:`RequestError`, with ``unwritable`` where a disk is full.
    """

    def __init__(
        self,
        scratch: Callable[[], Path],
        unwritable: Callable[[OSError], RequestError],
        places: int = PLACES,
    ) -> None:
        self._scratch = scratch
        self._unwritable = unwritable
        self._turns = FairTurns(places)
        self._whole = FairTurns(1)

    @contextlib.asynccontextmanager
    async def place(self, client: str, *, whole: bool = False) -> AsyncIterator[None]:
        """Receive one upload of ``client`` in here; ``whole``: it will be in memory as one.

        Raises :class:`RequestError` where there is no place, or the upload comes too slowly.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(WAIT_S):
                    turns = self._whole if whole else self._turns
                    await stack.enter_async_context(turns.turn(client, 1.0))
            except TimeoutError:
                raise RequestError(
                    "resource_exhausted", f"Others have uploaded for {WAIT_S:g} s: try again later."
                ) from None
            try:
                async with asyncio.timeout(RECEIVE_S):
                    yield
            except TimeoutError:
                raise RequestError(
                    "deadline_exceeded", f"The upload did not come within {RECEIVE_S:g} s: send it again."
                ) from None

    async def keep(self, pieces: AsyncIterator[bytes]) -> Upload:
        """A file on disk, of pieces as they come."""
        upload = await self.begin()
        try:
            async for piece in pieces:
                await self.append(upload, piece)
        except BaseException:
            upload.discard()
            raise
        return upload

    @contextlib.asynccontextmanager
    async def whole(self, client: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """All of a file in memory, after it has come: a slow sender takes no turn of those that are there whole."""
        async with self.place(client):
            upload = await self.keep(pieces)
        try:
            async with self.place(client, whole=True):
                yield await asyncio.to_thread(upload.path.read_bytes) if upload.size else b""
        finally:
            upload.discard()

    async def begin(self) -> Upload:
        """An empty one."""
        try:
            return await asyncio.to_thread(
                lambda: Upload(self._scratch())
            )  # whoever leaves meanwhile lets it go
        except OSError as error:
            raise self._unwritable(error) from None

    async def append(self, upload: Upload, piece: bytes) -> None:
        """One piece."""
        try:
            await asyncio.to_thread(upload.append, piece)
        except OSError as error:
            raise self._unwritable(error) from None
