"""Authentication, both ends (RFC 3261 section 22): challenges with their nonces, and which challenge to answer."""

from __future__ import annotations

import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.sip.agent.digest import (
    STRONGEST_FIRST,
    answer_challenge,
    digest_response,
    format_credentials,
    parse_digest,
)
from orchestrator.sip.agent.guesses import Guesses
from orchestrator.sip.agent.nonces import Nonces
from orchestrator.sip.message.grammar import GrammarError, parse_uri
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.message.text import PeerText
from visavis.service.logs import Log

log = Log(__name__)

NONCES_COUNTED = 64
REALM_HINT = "if it is the account's, name it as realm in VISAVIS_SIP_ACCOUNTS"
_COUNT = re.compile(r"[0-9a-fA-F]{8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Challenge:
    """Why a request is not authenticated: WWW-Authenticate values to send, or seconds to `wait` (none are sent).

    `problem` says what is wrong with the credentials that came, in words; empty where none did.
    """

    challenges: tuple[str, ...]
    problem: str = ""
    wait: int = 0


class Challenger:
    """The server's side of digest authentication (RFC 7616): challenges requests, checks the answers.

    What is taken has qop=auth and one of `algorithms`, is for the URI of the request, and answers a nonce that was
    given to this source, with a count that was not used before. `algorithms` are in the order of the challenges.
    """

    def __init__(
        self,
        realm: str,
        users: dict[str, str],
        now: Callable[[], float],
        algorithms: tuple[str, ...] = STRONGEST_FIRST,
    ) -> None:
        self._realm = realm
        self._algorithms = algorithms
        self._users = users
        self._nonces = Nonces(now)
        self._guesses = Guesses(now)

    def check(self, request: Request, source: str, *, relayed: bool = False) -> Challenge | None:
        """None where the request is authenticated, else what to answer it with.

        `relayed`: `source` is a proxy that others' calls come through. It may have changed the URI of the request,
        and one user's wrong passwords make nobody wait.
        """
        stale, problem = False, ""
        for value in request.headers.all("Authorization"):
            params = parse_digest(value)
            if params is None or params.get("realm") != self._realm:
                continue
            user, nonce = params.get("username", ""), params.get("nonce", "")
            if wait := self._guesses.wait(user, source):
                return Challenge((), "too many wrong passwords for this user", wait)
            ours = self._nonces.is_ours(nonce, source)
            if not self._is_whole(params):
                problem = "credentials without qop=auth, or of an algorithm that is not taken"
            elif not self._matches(params, request.method):
                problem = "a wrong password"
                if ours and not relayed:  # whoever has our nonce can hear us: it is no forged address
                    self._guesses.failed(user, source)
            elif not relayed and not _same_uri(params.get("uri", ""), request.uri):
                problem = "credentials for another URI"
            elif not ours or not self._nonces.take(nonce, int(params["nc"], 16)):
                stale, problem = True, "credentials that are too old, for another source or used before"
            else:
                self._guesses.succeeded(user, source)
                return None
        suffix = ", stale=true" if stale else ""
        nonce = self._nonces.make(source)
        challenges = tuple(
            f'Digest realm="{self._realm}", nonce="{nonce}", qop="auth", algorithm={name}{suffix}'
            for name in self._algorithms
        )
        return Challenge(challenges, problem)

    def _is_whole(self, params: dict[str, str]) -> bool:
        """Whether these are credentials as RFC 7616 has them; RFC 2069's cannot be told from repeated ones."""
        return (
            params.get("qop") == "auth"
            and bool(params.get("cnonce"))
            and _COUNT.fullmatch(params.get("nc", "")) is not None
            and params.get("algorithm", "MD5").upper() in self._algorithms
        )

    def _matches(self, params: dict[str, str], method: str) -> bool:
        password = self._users.get(params.get("username", ""))
        expected = digest_response(params, password, method) if password is not None else None
        given = params.get("response", "").lower()
        return expected is not None and hmac.compare_digest(
            expected.encode(), given.encode("utf-8", "replace")
        )


def _same_uri(one: str, other: str) -> bool:
    """Whether two URIs name the same resource: user, host and port (RFC 3261 section 19.1.4)."""
    if one == other:
        return True
    try:
        a, b = parse_uri(one), parse_uri(other)
    except GrammarError:
        return False
    return (a.decoded_user, a.host.lower(), a.port) == (b.decoded_user, b.host.lower(), b.port)


class AccountServers(Protocol):
    """The servers of an account."""

    def owns(self, host: str) -> bool:
        """Whether an IP address is one of them."""


@dataclass(slots=True)
class Credentials:
    """A user name and password that answer the challenges of one account, counting uses of the last nonces.

    Only challenges of `servers` (None: of anybody) are answered, and only in the account's realm: `realm`, or where
    that is empty what its registrar asked for, `names` (hosts of the account) and the domains that these are in. A
    server of the account may hand on the challenge of whoever was called.
    """

    username: str
    password: str = field(repr=False)
    realm: str = ""
    names: Collection[str] = ()
    servers: AccountServers | None = None
    _learnt: str = ""
    _counts: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def are_for(self, server: str) -> bool:
        """Whether the server at this IP address gets an answer to its challenges."""
        return self.servers is None or self.servers.owns(server)

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
            nonce, realm = challenge.get("nonce", ""), challenge.get("realm", "")
            if tried is not None and challenge.get("stale", "").lower() != "true":
                continue
            if not self._is_ours(realm, request.method):
                log.warning(
                    "challenge_unanswered", user=self.username, realm=PeerText(realm), hint=REALM_HINT
                )
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

    def _is_ours(self, realm: str, method: str) -> bool:
        if self.realm or self.servers is None:
            return realm == (self.realm or realm)
        if method == "REGISTER":  # goes no further than the registrar
            self._learnt = realm
        name = realm.lower()
        within = any(host == name or ("." in name and host.endswith(f".{name}")) for host in self.names)
        return within or (bool(realm) and realm == self._learnt)
