"""Signatures of webhook messages: Standard Webhooks (https://www.standardwebhooks.com), version 1."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from visavis.service.secret import Secret

PREFIX = "whsec_"
SHORTEST_BYTES = 16


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: base64 after ``whsec_``, else the text itself.

    Raises ``ValueError`` in one sentence, which does not hold the secret.
    """
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raise ValueError("after whsec_ it must be base64") from None
    else:
        key = secret.encode("utf-8", "surrogateescape")
    if len(key) < SHORTEST_BYTES:
        raise ValueError(f"a key of {len(key)} bytes can be guessed: use at least {SHORTEST_BYTES}")
    return key


class Signer:
    """Makes the headers of a message from a secret as :func:`signing_key` takes it."""

    def __init__(self, secret: Secret) -> None:
        self._key = signing_key(secret.reveal())

    def headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """``webhook-id``, ``webhook-timestamp`` (seconds since 1970) and ``webhook-signature``."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,{signature}",
        }


def kept_secret(path: Path) -> Secret:
    """The secret in a file that only we may read; made where there is none. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = f"{PREFIX}{base64.b64encode(secrets.token_bytes(32)).decode()}\n"
    if not path.exists():
        part = path.with_name(f".{secrets.token_hex(8)}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made)
        with contextlib.suppress(FileExistsError):  # another orchestrator was first
            os.link(part, path)
        part.unlink()
    return Secret(path.read_text().strip())
