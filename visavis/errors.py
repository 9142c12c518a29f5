"""The errors between a client and its servers, each told in one clear sentence."""

from __future__ import annotations


class VisavisError(Exception):
    """Base of everything this library raises on purpose."""


class ServerUnavailable(VisavisError):
    """The server cannot be reached, is draining, or its engine is not ready: try another or later."""


class ServerFull(ServerUnavailable):
    """The server has no room for another session or turn: try another or later."""


class ServerStalled(ServerUnavailable):
    """The server keeps the connection but does not answer in time."""


class AccessDenied(ServerUnavailable):
    """The server wants a token, another one, or one that may do more: its sentence says which."""


class AvatarUnknown(VisavisError):
    """The server does not hold this avatar: prepare or import it there, then open again."""


class InvalidRequest(VisavisError):
    """The server refused what was sent (a bad image, a size, a message out of order)."""


class BodyCorrupt(VisavisError):
    """Loop frames do not have the digest that names them: fetch the body again."""


class ProtocolError(VisavisError):
    """The server sent something that the contract does not allow."""


class ProviderMisuse(VisavisError, RuntimeError):
    """An avatar provider is used in a way that would mix two conversations."""
