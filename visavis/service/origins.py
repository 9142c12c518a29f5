"""Which requests of browsers are strangers': DNS rebinding, and pages of other sites. Sans-IO."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def is_own_name(host: str, names: Collection[str] = ()) -> bool:
    """Whether a ``Host`` header names this service in a way that no stranger's DNS can.

    Those are addresses, ``localhost``, names without a dot and names of clusters (DNS rebinding needs a public
    name), and the ``names`` that were configured.
    """
    name = _host_of(host)
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return (
        name in {known.lower().rstrip(".") for known in names}
        or (bool(name) and "." not in name)
        or name.endswith((".localhost", ".svc", ".cluster.local"))
    )


def is_foreign(origin: str, host: str, origins: Collection[str] = ()) -> bool:
    """Whether an ``Origin`` header is that of another site's page; ``origins`` were configured, ``*`` is all."""
    if not origin or {"*", origin.rstrip("/")} & set(origins):
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower() or not host
    except ValueError:
        return True


def _host_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
