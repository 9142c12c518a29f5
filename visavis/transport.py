"""The former place of :class:`visavis.client.server.ServerClient`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visavis.deprecated import moved

if TYPE_CHECKING:
    from visavis.client.server import ServerClient as ServerClient
else:
    __getattr__ = moved(__name__, {"ServerClient": "visavis.client.server:ServerClient"})
