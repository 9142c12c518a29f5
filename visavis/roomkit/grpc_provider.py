"""RoomKit's avatar provider over an avatar server's gRPC face."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Unpack

from visavis.client.credentials import ServerCredentials, credentials_of
from visavis.client.grpc import GrpcServerClient
from visavis.roomkit.provider import ProviderOptions, ServerAvatarProvider


class GrpcAvatarProvider(ServerAvatarProvider):
    """RoomKit's ``AvatarProvider`` over an avatar server's gRPC face.

    ``base_url``: ``host:port``, ``grpc://host:port``, ``dns:///name:port`` or several of them (a list, or
    separated by commas). ``token`` or ``credentials`` say who asks (see :class:`visavis.ServerCredentials`); a
    server on this machine needs neither. The other settings are those of :class:`ServerAvatarProvider`. Raises
    ``ValueError`` on what is no such address.
    """

    def __init__(
        self,
        base_url: str | Sequence[str] = "127.0.0.1:50051",
        *,
        fps: int | Fraction = 30,
        token: str | None = None,
        credentials: ServerCredentials | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        connect = functools.partial(GrpcServerClient, credentials=credentials_of(token, credentials))
        super().__init__(grpc_addresses(base_url), connect=connect, fps=fps, **options)

    @property
    def name(self) -> str:
        return "visavis-grpc"


def grpc_addresses(base_url: str | Sequence[str]) -> list[str]:
    """Addresses out of what a person writes. Raises ``ValueError`` with what is expected."""
    given = base_url.split(",") if isinstance(base_url, str) else list(base_url)
    addresses = [a.strip().removeprefix("grpc://").rstrip("/") for a in given if a.strip()]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if address.startswith(("http:", "https:")) or not host or not port.isdigit():
            raise ValueError(
                f"{address} is not the address of a gRPC server: write host:port, such as 127.0.0.1:50051"
            )
    if not addresses:
        raise ValueError("name at least one avatar server as host:port")
    return addresses
