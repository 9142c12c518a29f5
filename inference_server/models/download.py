"""Fetch model files from their public hub: resumed where they were cut off, kept only when whole."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import httpx

from inference_server.models.check import (
    ACCEPT_HINT,
    CHECKSUMS,
    container_problem,
    find,
    known_checksums,
    sha256_of,
)
from inference_server.models.manifest import ModelFile

HUB = "https://huggingface.co"
ATTEMPTS = 5

Report = Callable[[ModelFile, int, int], None]
"""Called with the file, the bytes that are here and the bytes in all (0: not known)."""


class DownloadFailed(Exception):
    """One clear sentence with what to do."""


class Hub:
    """A model hub that serves ``/REPO/resolve/REVISION/FILE``.

    ``accept``: digests of weights of which none is pinned.
    """

    def __init__(
        self,
        base: str = HUB,
        *,
        token: str = "",
        timeout_s: float = 30.0,
        pause: Callable[[float], None] = time.sleep,
        accept: Collection[str] = (),
    ) -> None:
        self._accept = accept
        self._base = base.rstrip("/")
        self._pause = pause
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(headers=headers, timeout=timeout_s, follow_redirects=True)

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, root: Path, files: Iterable[ModelFile], report: Report) -> list[Path]:
        """Fetch what is not there yet into ``root``; returns what was fetched. Raises
        :class:`DownloadFailed`; what has come of a file stays as ``NAME.part`` and is gone on with next time."""
        fetched = []
        for file in files:
            present = find(root, file)
            if present is not None and not container_problem(present):
                report(file, present.stat().st_size, present.stat().st_size)
                continue
            fetched.append(self._fetch_one(root, file, report))
        return fetched

    def _fetch_one(self, root: Path, file: ModelFile, report: Report) -> Path:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        size, digest = self._describe(file)
        for attempt in range(ATTEMPTS):
            try:
                self._receive(file, part, size, report)
                break
            except httpx.HTTPError as error:
                if isinstance(error, httpx.ConnectError) and not attempt:
                    raise self._unreachable(error) from error
                if attempt == ATTEMPTS - 1:
                    raise DownloadFailed(
                        f"{file.path} broke off ({error or type(error).__name__}): run the command again, "
                        "it goes on where it stopped"
                    ) from error
                self._pause(min(2.0**attempt, 30.0))
        found = sha256_of(part)
        if digest and found != digest:
            part.unlink()
            raise DownloadFailed(
                f"{file.path} came with SHA-256 {found[:12]}… instead of {digest[:12]}…: run the command again"
            )
        if file.needs_digest and not file.sha256 and found not in self._accept:
            raise DownloadFailed(
                f"{file.path} came with SHA-256 {found}, and {ACCEPT_HINT}; run the command again then, "
                "what has come stays"
            )
        part.replace(path)
        if problem := container_problem(path):
            path.unlink()
            raise DownloadFailed(f"{file.path} from {self._base} cannot be used: {problem}")
        known = {**known_checksums(root), file.path: found}
        (root / CHECKSUMS).write_text(json.dumps(known, indent=2, sort_keys=True))
        return path

    def _unreachable(self, error: Exception) -> DownloadFailed:
        return DownloadFailed(
            f"{self._base} cannot be reached ({error}): check the connection, or name a mirror with --hub"
        )

    def _url(self, file: ModelFile) -> str:
        return f"{self._base}/{file.repo}/resolve/{file.revision}/{file.remote}"

    def _describe(self, file: ModelFile) -> tuple[int, str]:
        """Size and SHA-256, pinned or as the hub tells them (its ETag of a large file is the digest)."""
        if file.size and file.sha256:
            return file.size, file.sha256
        try:
            answer = self._client.head(self._url(file), follow_redirects=False)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        tag = answer.headers.get("x-linked-etag", answer.headers.get("etag", "")).strip('"')
        size = answer.headers.get("x-linked-size", answer.headers.get("content-length", "0"))
        digest = tag if len(tag) == hashlib.sha256().digest_size * 2 else ""
        return (int(size) if size.isdigit() and not answer.is_redirect else file.size), file.sha256 or digest

    def _receive(self, file: ModelFile, part: Path, size: int, report: Report) -> None:
        here = part.stat().st_size if part.exists() else 0
        if size and here > size:
            part.unlink()
            here = 0
        if size and here == size:
            return
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={here}-"} if here else {})}
        with self._client.stream("GET", self._url(file), headers=headers) as answer:
            if answer.status_code == 416:  # the part is the whole or longer than it: judged by its digest
                return
            if answer.status_code in (401, 403, 404):
                raise DownloadFailed(
                    f"{self._url(file)} answered {answer.status_code}: the file is not public there; "
                    "name another hub with --hub, or a token in HF_TOKEN"
                )
            answer.raise_for_status()
            if answer.status_code != 206:
                here = 0  # the hub sends it from the start
            total = here + int(answer.headers.get("content-length", 0))
            with part.open("ab" if here else "wb") as out:
                for chunk in answer.iter_raw():
                    out.write(chunk)
                    here += len(chunk)
                    report(file, here, size or total)
        if size and here < size:
            raise httpx.ReadError(f"{here} of {size} bytes came")
