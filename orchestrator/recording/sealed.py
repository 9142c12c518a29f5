"""A file that is encrypted at rest, block by block, and can be read and written anywhere in it.

AES-256-GCM with a key of its own for each file (HKDF-SHA256 of the key file and a salt in the head), a new random
nonce for each write of a block, and the block's number as associated data: blocks cannot be exchanged, within or
between files. That a file was cut at a block's border is not seen. A block that was being written as the machine
lost its power is lost.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"VISAVIS1"
BLOCK = 64 * 1024
_SALT, _NONCE, _TAG = 24, 12, 16
HEAD = len(MAGIC) + _SALT
_STORED = _NONCE + BLOCK + _TAG
KEY_BYTES = 32


class WrongKey(Exception):
    """The file cannot be opened with this key, or was changed: one sentence."""


def read_key(file: Path) -> bytes:
    """The key of a key file: at least 32 bytes of any kind. Raises ``ValueError`` and ``OSError``."""
    key = file.read_bytes().strip()
    if len(key) < KEY_BYTES:
        raise ValueError(f"the key file {file} has {len(key)} bytes, at least {KEY_BYTES} are needed")
    return key


class SealedFile(io.RawIOBase):
    """Over an open binary file, which it closes: an empty one becomes a sealed one. Raises :class:`WrongKey`."""

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        super().__init__()
        self._file = file
        file.seek(0, io.SEEK_END)
        stored = file.tell()
        file.seek(0)
        if stored == 0:
            salt = os.urandom(_SALT)
            file.write(MAGIC + salt)
        else:
            magic, salt = file.read(len(MAGIC)), file.read(_SALT)
            if magic != MAGIC:
                file.close()
                raise WrongKey("this file is not encrypted by us")
        self._cipher = AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"visavis recording").derive(key))
        blocks, rest = divmod(max(0, stored - HEAD), _STORED)
        self._size = blocks * BLOCK + max(0, rest - _NONCE - _TAG)
        self._at = 0
        self._number = -1  # of the block at hand
        self._block = bytearray()
        self._changed = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        number, begin = divmod(self._at, BLOCK)
        if self._at >= self._size or not view:
            return 0
        self._take(number)
        piece = self._block[begin : begin + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._at > self._size:
            raise OSError("a sealed file has no holes")
        left = view
        while left:
            number, begin = divmod(self._at, BLOCK)
            self._take(number)
            piece = left[: BLOCK - begin]
            self._block[begin : begin + len(piece)] = piece
            self._changed = True
            self._at += len(piece)
            self._size = max(self._size, self._at)
            left = left[len(piece) :]
        return len(view)

    def flush(self) -> None:
        """Everything that was written is in the file below, encrypted."""
        if self._file.closed:
            return
        if self._changed:
            nonce = os.urandom(_NONCE)
            sealed = self._cipher.encrypt(nonce, bytes(self._block), self._number.to_bytes(8))
            self._file.seek(HEAD + self._number * _STORED)
            self._file.write(nonce + sealed)
            self._file.flush()
            self._changed = False

    def close(self) -> None:
        if not self.closed:
            self.flush()
            self._file.close()
        super().close()

    def _take(self, number: int) -> None:
        if number == self._number:
            return
        if self._changed:
            self.flush()
        self._file.seek(HEAD + number * _STORED)
        stored = self._file.read(_STORED)
        try:
            plain = (
                self._cipher.decrypt(stored[:_NONCE], stored[_NONCE:], number.to_bytes(8)) if stored else b""
            )
        except (InvalidTag, ValueError):
            raise WrongKey("the recording cannot be decrypted: another key, or a damaged file") from None
        self._number, self._block = number, bytearray(plain)
