"""RoomKit's ``MuseTalkAvatarProvider``, with nothing to run beside the application."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Unpack

from visavis.client.credentials import ServerCredentials
from visavis.client.grpc import GrpcServerClient
from visavis.roomkit.local_server import LocalServer
from visavis.roomkit.provider import ProviderOptions, ServerAvatarProvider
from visavis.service.security import fleet_file

__all__ = ["MuseTalkAvatarProvider"]


class MuseTalkAvatarProvider(ServerAvatarProvider):
    """MuseTalk on this machine, with the constructor of RoomKit's own provider of this name.

    :meth:`start` starts a private inference server, a child process on a loopback port, and :meth:`close` ends
    it (:meth:`stop` keeps it for the next portrait). A process and not this one, because an engine keeps an
    interpreter busy for milliseconds at a time, which would delay the voice of every call in RoomKit's. It is
    the same engine, with the same scheduler, as that of a server of its own.

    ``musetalk_dir``: the folder of the official weights (see ``docs/musetalk.md``; no clone of MuseTalk's code is
    needed), ``batch_size`` the largest batch, ``device`` ``cuda``, ``cpu`` or ``auto``, ``bbox_shift`` as in
    MuseTalk 1.0, ``whisper_dir`` is where the weights of Whisper lie in ``musetalk_dir`` and only
    ``models/whisper`` and ``whisper`` are understood. ``version``: ``v15`` or ``v1``. ``load_timeout``
    bounds the loading of the weights in seconds. The other settings are those of
    :class:`~visavis.roomkit.provider.ServerAvatarProvider`. Needs ``visavis[inference,musetalk]``.
    """

    _engine = "musetalk"

    def __init__(
        self,
        musetalk_dir: str | os.PathLike[str],
        *,
        fps: int = 30,
        batch_size: int = 8,
        device: str = "cuda",
        bbox_shift: int = 0,
        whisper_dir: str = "models/whisper",
        load_timeout: float = 600.0,
        engine_settings: dict[str, object] | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        if whisper_dir not in ("models/whisper", "whisper"):
            raise ValueError("the weights of Whisper are read from models/whisper or whisper in musetalk_dir")
        options.setdefault("timeout", 120.0)
        own = ServerCredentials(
            token_file=str(fleet_file())
        )  # what our own server asks for, whatever VISAVIS_TOKEN is
        connect = functools.partial(GrpcServerClient, credentials=own)
        super().__init__([], connect=connect, fps=fps, **options)
        self._folder = weights_folder(Path(musetalk_dir))
        self._engine_settings: dict[str, object] = {
            "musetalk_dir": self._folder,
            "fps": fps,
            "batch_size": batch_size,
            "device": device,
            "bbox_shift": bbox_shift,
            **(engine_settings or {}),
        }
        self._load_timeout = load_timeout
        self._local: LocalServer | None = None

    @property
    def name(self) -> str:
        return "musetalk"

    @property
    def address(self) -> str:
        """``host:port`` of the private server: other providers on this machine may use it too."""
        return self._local.address if self._local is not None else ""

    async def start(self, reference_image: bytes, *, width: int = 512, height: int = 512) -> None:
        """Load the engine, then prepare the portrait.

        Raises :class:`InvalidRequest` with what is missing, :class:`ServerUnavailable` where loading takes longer
        than ``load_timeout``.
        """
        if self._local is None:
            local = LocalServer(self._engine, self._engine_settings)
            self._addresses = [await local.start(self._load_timeout)]
            self._local = local
        await super().start(reference_image, width=width, height=height)

    async def close(self) -> None:
        """Stop, and end the private server."""
        await self.stop()
        local, self._local = self._local, None
        if local is not None:
            await local.stop()


def weights_folder(musetalk_dir: Path) -> Path:
    """The folder of the weights: the one named, or ``models`` in a clone of MuseTalk."""
    inside = musetalk_dir / "models"
    return inside if inside.is_dir() else musetalk_dir
