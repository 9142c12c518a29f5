"""The gate of an HTTP face (ASGI): nothing behind it sees a request that may not be there, nor a byte of its body.

In this order: pages of other origins are refused; a route's scope is asked of the token; and what comes without
one, to the few routes that are open to all, has to name this service in a way that no stranger's DNS can. Every
answer tells browsers not to guess its type, not to frame it and not to hand it to other sites.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from re import Pattern
from typing import Any
from urllib.parse import parse_qsl, urlencode

from visavis.service.origins import is_foreign, is_own_name
from visavis.service.security import Grant, Guard, Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SUBPROTOCOL = "visavis"
TOKEN_SUBPROTOCOL = "visavis.token."
"""A page can send no headers: it names the subprotocols ``visavis`` and ``visavis.token.TOKEN``."""

PROBLEM = b"application/problem+json"
_LINGER_S = 2.0  # a refused body is read on so long, so that the client sees the answer
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
]


@dataclass(frozen=True)
class Rule:
    """One route: ``methods`` is ``None`` for a WebSocket, ``scope`` is "" where everybody may come."""

    path: Pattern[str]
    methods: frozenset[str] | None
    scope: str


class Gate:
    """Middleware over an ASGI application. Handlers find who asks as ``grant`` in the request's state.

    ``hosts`` are names of ours beside those that need no naming, ``origins`` the origins of pages that may come.
    """

    def __init__(
        self,
        app: AsgiApp,
        guard: Guard,
        rules: Sequence[Rule],
        *,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._guard = guard
        self._rules = rules
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        send = _hardened(send, scope)
        try:
            grant = self._admit(scope)
        except Refused as refused:
            await _refuse(scope, receive, send, refused)
            return
        if grant is not None:
            scope.setdefault("state", {})["grant"] = grant
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Grant | None:
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if is_foreign(origin, host, self._origins):
            raise Refused(
                f"Pages of {origin[:200]} may not use this service: its settings name the origins that may.",
                unauthenticated=False,
            )
        needed = self._scope_of(scope)
        authorization = _header(scope, b"authorization") or _from_subprotocols(scope) or _from_query(scope)
        if needed == "":
            grant = self._guard.known(authorization)
        elif needed is None:
            grant = self._guard.identify(authorization)
        else:
            grant = self._guard.check(authorization, needed)
        if (grant is None or not authorization) and not is_own_name(host, self._hosts):
            raise Refused(
                f"This service is not known as {host[:200]}: its settings name the hosts that it answers to.",
                unauthenticated=False,
            )
        return grant

    def _scope_of(self, scope: Scope) -> str | None:
        """The scope that this request needs, "" for none, ``None`` where no route takes it."""
        path, method = str(scope["path"]).removeprefix(scope.get("root_path", "")), scope.get("method")
        for rule in self._rules:
            if (
                rule.methods is None if method is None else method in (rule.methods or ())
            ) and rule.path.match(path):
                return rule.scope
        return None


def _header(scope: Scope, name: bytes) -> str:
    """A header as text; "" where it is missing. Several of one name count as one that matches nothing."""
    found: list[bytes] = [value for key, value in scope["headers"] if key == name]
    return b", ".join(found).decode("latin-1")


def _from_subprotocols(scope: Scope) -> str:
    """The token that a page has sent as a subprotocol, as an ``Authorization`` header; nobody else sees it."""
    offered = scope.get("subprotocols") or []
    tokens: list[str] = [name for name in offered if name.startswith(TOKEN_SUBPROTOCOL)]
    if not tokens:
        return ""
    scope["subprotocols"] = [name for name in offered if name not in tokens]
    scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"sec-websocket-protocol"]
    return "Bearer " + tokens[0].removeprefix(TOKEN_SUBPROTOCOL)


def _from_query(scope: Scope) -> str:
    """The token in a WebSocket's URL (RFC 6750 section 2.3), for user agents of others that name no subprotocol but
    their own; nobody behind this sees it."""
    if scope["type"] != "websocket":
        return ""
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    tokens: list[str] = [value for name, value in pairs if name == "access_token"]
    if not tokens:
        return ""
    scope["query_string"] = urlencode([pair for pair in pairs if pair[0] != "access_token"]).encode()
    return "Bearer " + tokens[0]


def _hardened(send: Send, scope: Scope) -> Send:
    """Sends what browsers are to be told with each answer, and agrees to our subprotocol where it was offered."""
    ours = SUBPROTOCOL in (scope.get("subprotocols") or [])

    async def hardened(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = list(message.get("headers", ()))
            known = {name for name, _ in headers}
            message = {**message, "headers": headers + [h for h in _HEADERS if h[0] not in known]}
        elif message["type"] == "websocket.accept" and ours and not message.get("subprotocol"):
            message = {**message, "subprotocol": SUBPROTOCOL}
        await send(message)

    return hardened


async def _refuse(scope: Scope, receive: Receive, send: Send, refused: Refused) -> None:
    """Answer with problem details (RFC 9457), a WebSocket's handshake too."""
    status = 401 if refused.unauthenticated else 403
    kind = "unauthenticated" if refused.unauthenticated else "permission_denied"
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    body, media_type = json.dumps({**about, "detail": refused.sentence, "kind": kind}).encode(), PROBLEM
    if "text/html" in _header(scope, b"accept"):  # a person's browser, which shows no JSON of this type
        body, media_type = refused.sentence.encode(), b"text/plain; charset=utf-8"
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if refused.unauthenticated:
        headers.append((b"www-authenticate", b'Bearer realm="visavis"'))
    prefix = "http"
    if scope["type"] == "websocket":
        prefix = "websocket.http"
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send(
                {"type": "websocket.close", "code": 1008, "reason": refused.sentence.encode()[:123].decode()}
            )
            return
    else:
        await _linger(scope, receive)
    await send({"type": f"{prefix}.response.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})


async def _linger(scope: Scope, receive: Receive) -> None:
    """Read what the client sends for a moment: a connection that is closed with bytes unread loses the answer."""
    if not _header(scope, b"content-length") and not _header(scope, b"transfer-encoding"):
        return
    try:
        async with asyncio.timeout(_LINGER_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        return
