"""Authentication, both ends (RFC 3261 section 22): challenges with their nonces, and which challenge to answer."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.sip.agent.digest import (
    STRONGEST_FIRST,
    answer_challenge,
    digest_response,
    format_credentials,
    parse_digest,
)
from orchestrator.sip.message.message import Request, Response

NONCE_SECONDS = 300.0
NONCES_COUNTED = 64


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge: WWW-Authenticate values to send.

    `wrong` where credentials came and were bad (not merely stale).
    """

    challenges: tuple[str, ...]
    wrong: bool = False


class Challenger:
    """The server's side of digest authentication: challenges requests, checks the answers.

    Nonces carry their own time and seal.
    """

    def __init__(
        self,
        realm: str,
        users: dict[str, str],
        now: Callable[[], float],
        algorithms: tuple[str, ...] = ("MD5", "SHA-256"),
    ) -> None:
        self._realm = realm
        self._algorithms = algorithms
        self._users = users
        self._now = now
        self._secret = secrets.token_bytes(16)

    def check(self, request: Request) -> Challenge | None:
        """None where the request is authenticated, else what to answer its 401 with."""
        stale = wrong = False
        for value in request.headers.all("Authorization"):
            params = parse_digest(value)
            if params is None or params.get("realm") != self._realm:
                continue
            if not self._matches(params, request.method):
                wrong = True
            elif not self._fresh(params.get("nonce", "")):
                stale = True
            else:
                return None
        suffix = ", stale=true" if stale else ""
        nonce = self._nonce()
        return Challenge(
            tuple(
                f'Digest realm="{self._realm}", nonce="{nonce}", qop="auth", algorithm={name}{suffix}'
                for name in self._algorithms
            ),
            wrong,
        )

    def _matches(self, params: dict[str, str], method: str) -> bool:
        """A request that asked for no qop is accepted in its RFC 2069 form."""
        password = self._users.get(params.get("username", ""))
        if params.get("algorithm", "MD5").upper() not in self._algorithms:
            return False
        expected = digest_response(params, password, method) if password is not None else None
        given = params.get("response", "").lower()
        return expected is not None and hmac.compare_digest(
            expected.encode(), given.encode("utf-8", "replace")
        )

    def _nonce(self) -> str:
        stamp = f"{self._now():.0f}"
        return f"{stamp}.{self._seal(stamp)}"

    def _seal(self, stamp: str) -> str:
        return hmac.new(self._secret, stamp.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]

    def _fresh(self, nonce: str) -> bool:
        stamp, _, seal = nonce.partition(".")
        if not hmac.compare_digest(seal.encode("utf-8", "replace"), self._seal(stamp).encode()):
            return False
        return self._now() - float(stamp) < NONCE_SECONDS


@dataclass(slots=True)
class Credentials:
    """A user name and password that answer challenges, counting uses of the last nonces."""

    username: str
    password: str = field(repr=False)
    _counts: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def answer(self, request: Request, response: Response) -> bool:
        """Put credentials for a 401 or 407 on `request`; False where there are none that could help.

        Credentials refused once are not tried again, unless the server says that only the nonce was stale.
        """
        names = ("WWW-Authenticate", "Authorization")
        if response.status == 407:
            names = ("Proxy-Authenticate", "Proxy-Authorization")
        challenges = [found for value in response.headers.all(names[0]) if (found := parse_digest(value))]
        order = {name: index for index, name in enumerate(STRONGEST_FIRST)}
        challenges.sort(key=lambda challenge: order.get(challenge.get("algorithm", "MD5").upper(), 9))
        tried = request.headers.get(names[1])
        for challenge in challenges:
            nonce = challenge.get("nonce", "")
            if tried is not None and challenge.get("stale", "").lower() != "true":
                continue
            self._counts[nonce] = self._counts.get(nonce, 0) + 1
            self._counts.move_to_end(nonce)
            if len(self._counts) > NONCES_COUNTED:
                self._counts.popitem(last=False)
            credentials = answer_challenge(
                challenge,
                self.username,
                self.password,
                request.method,
                request.uri,
                count=self._counts[nonce],
                cnonce=secrets.token_hex(8),
            )
            if credentials is not None:
                request.headers.set(names[1], format_credentials(credentials))
                return True
        return False
