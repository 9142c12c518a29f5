"""ServerCredentials of both services: bearer tokens with scopes, and who may do what.

A token file has one token a line: ``TOKEN [SCOPE,SCOPE...] [NAME]``; without scopes it may do everything that the
service offers, and ``#`` begins a remark. The first start makes it (mode 0600). It is read again when it changes:
while an old and a new line stand in it, both are valid, and clients on this machine send the first.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from visavis.service.logs import Log
from visavis.service.secret import Secret

log = Log(__name__)

ApiScope = Literal[
    "status:read",
    "calls:read",
    "calls:listen",
    "calls:speak",
    "calls:dial",
    "calls:join",
    "avatars:write",
    "admin",
]
FleetScope = Literal["stream", "prepare", "server"]
API_SCOPES: tuple[str, ...] = ApiScope.__args__  # type: ignore[attr-defined]
FLEET_SCOPES: tuple[str, ...] = FleetScope.__args__  # type: ignore[attr-defined]
ADMIN = "admin"
"""The scope that holds all others."""

LOOK_S = 0.5
"""A token file is looked at again after so long."""
_LEAST_LENGTH = 16


class Refused(Exception):
    """A request without the right to what it asks for: one sentence that says what to do.

    ``unauthenticated``: nobody knows who asks (401, UNAUTHENTICATED); else it is known, and not allowed to (403,
    PERMISSION_DENIED).
    """

    def __init__(self, sentence: str, *, unauthenticated: bool) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.unauthenticated = unauthenticated


@dataclass(frozen=True)
class Grant:
    """Who asks, by the name of the token, and what that token may do. ``shared``: it says nothing of who asks."""

    name: str
    scopes: frozenset[str]
    shared: bool = False

    def allows(self, scope: str) -> bool:
        """Whether it may do what this scope is for."""
        return scope in self.scopes or ADMIN in self.scopes


class TokenLine(NamedTuple):
    """A line of a token file; ``scopes`` are separated by commas, ``*`` for all."""

    token: str
    scopes: str = "*"
    name: str = ""

    @classmethod
    def of(cls, line: str) -> TokenLine | None:
        """``None`` for a line without a token."""
        words = line.partition("#")[0].split()[:3]
        return cls(*words) if words else None

    def __str__(self) -> str:
        return " ".join(self).rstrip()


def fleet_file() -> Path:
    """Where the token that orchestrators and inference servers of one machine share lies by default."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "visavis" / "tokens" / "fleet"


def new_token() -> str:
    """256 random bits as text."""
    return "visavis_" + secrets.token_urlsafe(32)


def make_token_file(path: Path, name: str) -> bool:
    """Write a file with one new token, unless there is one; whether it is new. Raises ``OSError``.

    Of several processes that begin together one writes it, and nobody reads half of it. Where the folder may be
    read by its group the file may be, too.
    """
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp makes it 0600
    try:
        os.fchmod(descriptor, 0o600 | path.parent.stat().st_mode & 0o040)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{TokenLine(new_token(), name=name)}\n")
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        Path(draft).unlink()
    return True


class TokenFileError(OSError):
    """There is no token file, and none can be made: one sentence."""


def need_token_file(path: Path, name: str) -> None:
    """Make a token file where there is none. Raises :class:`TokenFileError` where it cannot be had."""
    try:
        if make_token_file(path, name):
            log.info("tokens_made", file=str(path))
        path.read_bytes()
    except OSError as error:
        raise TokenFileError(
            f"the token file {path} cannot be {'read' if path.exists() else 'made'} ({error.strerror}), and nobody "
            "is served without credentials: choose another file, or make it readable for this user"
        ) from None


def read_token(path: Path) -> Secret:
    """The first token of a file, "" where there is no such file or none in it."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return Secret()
    return next((Secret(found.token) for line in lines if (found := TokenLine.of(line))), Secret())


class Tokens:
    """Those of a token file, and what each may do. Only their hashes stay in memory.

    ``scopes`` are all that the service knows.
    """

    def __init__(
        self, path: Path, scopes: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._scopes = frozenset(scopes)
        self._clock = clock
        self._grants: list[tuple[bytes, Grant]] = []
        self._seen: tuple[int, int, int] | None = None
        self._look_at = 0.0

    def grant(self, token: str) -> Grant | None:
        """What this token may do, ``None`` where it is unknown; a wrong one takes as long as a right one."""
        self._look()
        offered = _digest(token)
        found: Grant | None = None
        for digest, grant in self._grants:
            if hmac.compare_digest(digest, offered):
                found = grant
        return found

    def _look(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        try:
            about = self.path.stat()
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
            if seen == self._seen:
                return
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            if self._seen != (0, 0, 0):
                log.error("tokens_not_read", file=str(self.path), reason=f"{type(error).__name__}: {error}")
            self._seen = (0, 0, 0)  # those that were read stay valid
            return
        self._seen = seen
        self._grants = [grant for n, line in enumerate(lines, 1) if (grant := self._parse(line, n))]
        log.info("tokens_read", file=str(self.path), names=[grant.name for _, grant in self._grants])

    def _parse(self, line: str, number: int) -> tuple[bytes, Grant] | None:
        found = TokenLine.of(line)
        if found is None:
            return None
        named = self._scopes if found.scopes == "*" else frozenset(found.scopes.split(","))
        unknown = sorted(named - self._scopes)
        if len(found.token) < _LEAST_LENGTH or unknown:
            short = f"it has less than {_LEAST_LENGTH} characters"
            what = f"no scope is named {unknown[0]}" if unknown else short
            log.error("token_ignored", file=str(self.path), line=number, reason=what)
            return None
        return _digest(found.token), Grant(found.name or f"line {number}", named)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Guard:
    """Decides who may do what at one service.

    ``insecure``: what brings no credential may do everything, for the time of a rollout. ``certificates``: the
    TLS handshake has asked for a client's certificate, which is a credential for everything. ``help_`` ends the
    sentence of a refusal: where the token is to be had.
    """

    def __init__(
        self,
        tokens: Tokens,
        scopes: Sequence[str],
        help_: str,
        *,
        insecure: bool = False,
        certificates: bool = False,
    ) -> None:
        self._tokens = tokens
        self._help = help_
        self._open = insecure or certificates
        self.without_token = 0
        """Requests so far that were served although they brought none."""
        name = "certificate" if certificates else "anonymous"
        self._anybody = Grant(name, frozenset(scopes), shared=True)

    def check(self, authorization: str, scope: str) -> Grant:
        """Who asks, by its ``Authorization`` header ("" for none). Raises :class:`Refused`."""
        grant = self.identify(authorization)
        if not grant.allows(scope):
            has = ", ".join(sorted(grant.scopes))
            raise Refused(
                f"This token may not do that: it needs the scope {scope}, and has {has or 'none'}.",
                unauthenticated=False,
            )
        return grant

    def identify(self, authorization: str) -> Grant:
        """Who asks, whatever for. Raises :class:`Refused`."""
        if not authorization:
            if self._open:
                self.without_token += 1
                return self._anybody
            raise Refused(f"This request has no token: {self._help}", unauthenticated=True)
        grant = self.known(authorization)
        if grant is None:
            raise Refused(f"This token is not valid here, or no longer: {self._help}", unauthenticated=True)
        return grant

    def known(self, authorization: str) -> Grant | None:
        """Whose token it is, ``None`` where there is none that is valid."""
        token = bearer(authorization)
        return self._tokens.grant(token) if token else None


def bearer(authorization: str) -> str:
    """The token of an ``Authorization`` header, "" where it has none.

    ``Bearer TOKEN`` (RFC 6750), or ``Basic`` (RFC 7617) with the token as the password: that is what a client
    sends which knows nothing but a URL, ``http://any:TOKEN@host``.
    """
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    return ""
