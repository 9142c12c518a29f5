"""Nonces of digest authentication: sealed, bound to a source, good for a while, each count good once (RFC 7616)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

NONCE_SECONDS = 300.0
MAX_USED = 10_000
WINDOW = 64
"""How far behind the highest count of a nonce one may come that was overtaken on its way."""


@dataclass(slots=True)
class _Used:
    """The counts of one nonce that were used: bit n of `seen` is `highest - n`."""

    issued: float
    highest: int = 0
    seen: int = 0

    def take(self, count: int) -> bool:
        ahead = count - self.highest
        if ahead > 0:
            self.seen = ((self.seen << min(ahead, WINDOW)) | 1) & (2**WINDOW - 1)
            self.highest = count
            return True
        bit = 1 << -ahead
        if -ahead >= WINDOW or self.seen & bit:
            return False
        self.seen |= bit
        return True


class Nonces:
    """Makes nonces and knows its own: nothing is kept of one before it has authenticated somebody."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._secret = secrets.token_bytes(32)
        self._used: OrderedDict[str, _Used] = OrderedDict()
        self._forgotten = float("-inf")

    def make(self, source: str) -> str:
        """A fresh one for `source`, an IP address."""
        body = f"{self._now():.3f}-{secrets.token_hex(8)}"
        return f"{body}-{self._seal(body, source)}"

    def is_ours(self, nonce: str, source: str) -> bool:
        """Whether it was made here, for this source, and is not too old."""
        body, _, seal = nonce.rpartition("-")
        if not hmac.compare_digest(seal.encode("utf-8", "replace"), self._seal(body, source).encode()):
            return False
        issued = float(body.partition("-")[0])
        if issued <= self._forgotten and nonce not in self._used:
            return False
        return self._now() - issued < NONCE_SECONDS

    def take(self, nonce: str, count: int) -> bool:
        """Use up one count of a nonce of ours; False where it was used before or is too far behind."""
        used = self._used.get(nonce)
        if used is None:
            used = self._used[nonce] = _Used(float(nonce.partition("-")[0]))
            if len(self._used) > MAX_USED:
                self._forgotten = max(self._forgotten, self._used.popitem(last=False)[1].issued)
        return used.take(count)

    def _seal(self, body: str, source: str) -> str:
        text = f"{body} {source}".encode("utf-8", "replace")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:32]
