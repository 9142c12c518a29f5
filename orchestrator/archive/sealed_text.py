"""Texts that are encrypted at rest, each bound to its place in the database.

AES-256-GCM with a key of its own (HKDF-SHA256 of the key file), a new random nonce for each text, and the row's
identity as associated data: texts cannot be exchanged between rows. What was written without a key stays readable.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SIGN = "\x01"
_MARK = f"{_SIGN}visavis1:"
_NONCE = 12
_KEY_BYTES = 32


class Unreadable(Exception):
    """A text cannot be decrypted with this key, or was changed: one sentence."""


class SealedTexts:
    """``key`` is the key file's content; without it texts stay plain."""

    def __init__(self, key: bytes | None) -> None:
        self._cipher = (
            AESGCM(HKDF(SHA256(), _KEY_BYTES, None, b"visavis transcript").derive(key)) if key else None
        )

    def seal(self, text: str, call_id: str, number: int) -> str:
        """What is to be stored of an entry's text."""
        text = text.lstrip(_SIGN)  # what is plain never looks sealed
        if self._cipher is None:
            return text
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), _identity(call_id, number))
        return _MARK + base64.b64encode(sealed).decode()

    def open(self, stored: str, call_id: str, number: int) -> str:
        """The text again. Raises :class:`Unreadable`."""
        if not stored.startswith(_MARK):
            return stored
        if self._cipher is None:
            raise Unreadable(
                f"the transcript of call '{call_id}' is encrypted, and VISAVIS_RECORDING_KEY_FILE names no key"
            )
        try:
            sealed = base64.b64decode(stored.removeprefix(_MARK), validate=True)
            nonce, rest = sealed[:_NONCE], sealed[_NONCE:]
            return self._cipher.decrypt(nonce, rest, _identity(call_id, number)).decode()
        except (InvalidTag, ValueError):
            raise Unreadable(
                f"the transcript of call '{call_id}' cannot be decrypted: VISAVIS_RECORDING_KEY_FILE names another "
                "key than it was written with, or it was changed"
            ) from None


def _identity(call_id: str, number: int) -> bytes:
    return f"{call_id}\0{number}".encode()
