"""RoomKit's avatar provider over an avatar server's HTTP face."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Unpack
from urllib.parse import urlsplit

from visavis.client.credentials import ServerCredentials, credentials_of
from visavis.client.http import HttpServerClient
from visavis.roomkit.provider import ProviderOptions, ServerAvatarProvider

__all__ = ["HTTPAvatarProvider"]


class HTTPAvatarProvider(ServerAvatarProvider):
    """RoomKit's ``AvatarProvider`` over an avatar server's HTTP face, no gRPC needed.

    ``base_url``: ``http://host:8500``, ``https://host``, ``dns:///name:8500`` or several of them (a list, or
    separated by commas): the freest is taken, the next one on failure. ``timeout`` bounds the preparation of a
    portrait. ``token`` or ``credentials`` say who asks (see :class:`visavis.ServerCredentials`); a server on this
    machine needs neither. ``sample_rate`` is the rate of what is fed, where given; else the one told with each
    chunk. The other settings are those of :class:`visavis.roomkit.provider.ServerAvatarProvider`. Raises
    ``ValueError`` on what is no such address.
    """

    def __init__(
        self,
        base_url: str | Sequence[str] = "http://127.0.0.1:8500",
        *,
        fps: int | Fraction = 30,
        token: str | None = None,
        credentials: ServerCredentials | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        connect = functools.partial(HttpServerClient, credentials=credentials_of(token, credentials))
        super().__init__(http_addresses(base_url), connect=connect, fps=fps, **options)

    @property
    def name(self) -> str:
        return "visavis-http"


def http_addresses(base_url: str | Sequence[str]) -> list[str]:
    """Addresses out of what a person writes. Raises ``ValueError`` with what is expected."""
    given = base_url.split(",") if isinstance(base_url, str) else list(base_url)
    addresses = [a.strip().rstrip("/") for a in given if a.strip()]
    for address in addresses:
        if address.startswith("dns:"):
            continue
        url = address if "://" in address else f"http://{address}"
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            good = good and not parts.netloc.endswith(":")
        except ValueError:
            good = False
        if not good or parts.query or parts.fragment:
            raise ValueError(
                f"{address} is not the address of an avatar server: write a URL such as http://127.0.0.1:8500"
            )
    if not addresses:
        raise ValueError("name at least one avatar server by its URL, such as http://127.0.0.1:8500")
    return addresses
