"""STUN and TURN servers for browsers, with credentials that soon expire (coturn's REST convention)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

LIFETIME_S = 3600
"""Longer than it takes to place a call; a call under way renews nothing."""


def ice_servers(urls: Sequence[str], secret: str, now: float, name: str) -> list[dict[str, Any]]:
    """As ``RTCPeerConnection`` takes them. TURN servers get a user, which is when it expires and ``name``, and its
    password by ``secret``, which coturn has as ``static-auth-secret``: base64 of HMAC-SHA1."""
    servers: list[dict[str, Any]] = []
    stun = [url for url in urls if url.startswith(("stun:", "stuns:"))]
    turn = [url for url in urls if url.startswith(("turn:", "turns:"))]
    if stun:
        servers.append({"urls": stun})
    if turn:
        user = f"{int(now) + LIFETIME_S}:{name}"
        password = base64.b64encode(hmac.digest(secret.encode(), user.encode(), hashlib.sha1)).decode()
        servers.append({"urls": turn, "username": user, "credential": password})
    return servers
