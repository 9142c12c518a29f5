"""Where recordings lie: a folder, or an S3-compatible store that takes each of its files when it is whole."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from orchestrator.archive.entries import NotErased
from orchestrator.recording.sealed import MAGIC, SealedFile, WrongKey, read_key
from visavis.service.secret import Secret

_ID = ".place"
ANSWER_S = 10
_PIECE = 256 * 1024


class StoreAway(NotErased):
    """The store does not do what it is asked: one sentence."""


@dataclass(frozen=True)
class Bucket:
    """``url`` is ``s3://bucket/prefix``; without ``endpoint`` it is Amazon's, without ``key_id`` and ``secret``
    they come as Amazon's tools find them (environment, instance)."""

    url: str
    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    secret: Secret = field(default_factory=Secret)


class Store:
    """``folder`` is where files are written. With ``bucket`` they are moved there. ``key_file`` decrypts them.

    ``place`` names this very folder, or the bucket, in the list that orchestrators share. Methods raise
    :class:`StoreAway`.
    """

    def __init__(self, folder: Path, bucket: Bucket | None = None, key_file: Path | None = None) -> None:
        self.folder, self.key_file = folder, key_file
        self._bucket = _open_bucket(bucket) if bucket is not None else None
        self._url = bucket.url if bucket is not None else ""
        self._place = ""

    @property
    def place(self) -> str:
        """Raises ``OSError`` where the folder cannot be made."""
        if not self._place:
            self._place = self._url or f"folder {_identity(self.folder)}"
        return self._place

    @property
    def places(self) -> set[str]:
        """Where files of ours may lie: the folder of before there was a bucket, too. Raises ``OSError``."""
        file = self.folder / _ID
        folder = {f"folder {file.read_text().strip()}"} if file.exists() else set[str]()
        return folder | ({self._url} if self._url else set())

    @property
    def used(self) -> bool:
        """Whether there may be anything: a folder is made for the first recording."""
        return self.moves or self.folder.exists()

    @property
    def moves(self) -> bool:
        """Whether files are moved out of the folder."""
        return self._bucket is not None

    async def take(self, name: str) -> None:
        """A file of the folder is whole: move it where it belongs."""
        file = self.folder / name
        if self._bucket is not None and file.exists():
            try:
                await obstore.put_async(self._bucket, name, file)
            except (BaseError, OSError) as error:
                raise StoreAway(_sentence(error)) from error
            file.unlink(missing_ok=True)

    async def delete(self, name: str) -> None:
        """Of a file that is not there, too."""
        try:
            await asyncio.to_thread((self.folder / name).unlink, missing_ok=True)
            if self._bucket is not None:
                with contextlib.suppress(FileNotFoundError):
                    await obstore.delete_async(self._bucket, name)
        except (BaseError, OSError) as error:
            raise StoreAway(_sentence(error)) from error

    def written(self, name: str) -> tuple[int, float]:
        """Of a file that is still in the folder its bytes, and when it was last written (seconds since the epoch);
        zeros where there is none."""
        try:
            about = (self.folder / name).stat()
        except OSError:
            return 0, 0.0
        return about.st_size, about.st_mtime

    def names(self) -> list[str]:
        """Of the files in the folder."""
        return sorted(file.name for file in self.folder.glob("*.mp4"))

    def sealed(self, name: str) -> bool:
        """Whether a file in the folder is encrypted."""
        with (self.folder / name).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC

    def open(self, name: str, encrypted: bool) -> io.BufferedIOBase:
        """A file as it was recorded, to be read and closed; blocks. Raises ``FileNotFoundError``, ``WrongKey``."""
        try:
            if (self.folder / name).exists() or self._bucket is None:
                file = cast(BinaryIO, (self.folder / name).open("rb"))
            else:
                file = cast(BinaryIO, io.BufferedReader(_Stored(self._bucket, name), _PIECE))
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise StoreAway(_sentence(error)) from error
        if not encrypted:
            return cast(io.BufferedIOBase, file)
        try:
            if self.key_file is None:
                raise WrongKey("the recording is encrypted, and VISAVIS_RECORDING_KEY_FILE names no key")
            return io.BufferedReader(SealedFile(file, read_key(self.key_file)))
        except (ValueError, OSError) as error:
            raise StoreAway(_sentence(error)) from error


class _Stored(io.RawIOBase):
    """A file of a bucket, read range by range. Raises ``FileNotFoundError`` and ``BaseError``."""

    def __init__(self, bucket: S3Store, name: str) -> None:
        super().__init__()
        self._bucket, self._name, self._at = bucket, name, 0
        self._size = obstore.head(bucket, name)["size"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._at)
        if length <= 0:
            return 0
        view[:length] = memoryview(obstore.get_range(self._bucket, self._name, start=self._at, length=length))
        self._at += length
        return length


def _open_bucket(bucket: Bucket) -> S3Store:
    parts = urlsplit(bucket.url)
    options: dict[str, object] = {"region": bucket.region or "us-east-1"}
    if bucket.endpoint:
        options |= {"endpoint": bucket.endpoint, "virtual_hosted_style_request": False}
    if bucket.key_id:
        options |= {"access_key_id": bucket.key_id, "secret_access_key": bucket.secret.reveal()}
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        client_options={"allow_http": bucket.endpoint.startswith("http:"), "connect_timeout": f"{ANSWER_S}s"},
        retry_config={"max_retries": 2},
        **options,  # type: ignore[arg-type]
    )


def _identity(folder: Path) -> str:
    """What a folder is called, wherever it is mounted."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / _ID
    try:
        with file.open("x") as new:
            new.write(secrets.token_hex(8))
    except FileExistsError:
        pass
    return file.read_text().strip()


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"the store of recordings does not do it: {lines[0][:300] if lines else type(error).__name__}"
