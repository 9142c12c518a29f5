"""The client of one avatar server, for programs that need no pool."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import TracebackType

from visavis.client.events import OnEvent
from visavis.client.grpc import GrpcServerClient
from visavis.client.model import Avatar, AvatarSource, FitMode
from visavis.client.pool import ServerPool
from visavis.client.server import Progress
from visavis.client.stream import AvatarStream


class AvatarClient(GrpcServerClient):
    """One server at ``address`` (``host:port``) and the conversations on it, over one channel.

    ``token`` or ``credentials``: see :class:`ServerCredentials`.

    Every method raises :class:`ServerUnavailable` (or its kinds :class:`ServerFull`, :class:`ServerStalled`),
    :class:`AvatarUnknown` or :class:`InvalidRequest` with one clear sentence. Belongs to one event loop.
    """

    _pool: ServerPool | None = None

    async def __aenter__(self) -> AvatarClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel and every call on it."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()
        await super().close()

    async def prepare(
        self,
        image: bytes,
        width: int = 512,
        height: int = 512,
        fps: Fraction | int = 25,
        *,
        fit: FitMode = "crop",
        settings: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Avatar:
        """Portrait (bytes of an image file) to prepared avatar; answers at once where it is prepared."""
        source = AvatarSource(image, width, height, Fraction(fps), fit, dict(settings or {}))
        return await self.prepare_source(source, progress)

    async def open(
        self,
        avatar: Avatar,
        *,
        source: AvatarSource | None = None,
        session_id: str = "",
        body_sha256: bytes = b"",
        follows_path: bool = False,
        on_event: OnEvent | None = None,
    ) -> AvatarStream:
        """One conversation on this server alone; see :meth:`visavis.ServerPool.open` for several."""
        if self._pool is None:
            self._pool = ServerPool(self.address, connect=lambda _: self)
            await self._pool.start()
        return self._pool.open(
            avatar,
            source=source,
            session_id=session_id,
            body_sha256=body_sha256,
            follows_path=follows_path,
            on_event=on_event,
        )
