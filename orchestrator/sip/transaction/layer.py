"""The transaction layer (RFC 3261 section 17, RFC 6026), sans-IO.

Messages come in through `TransactionLayer.receive`, leave through flows, and time comes from a `Clock`.
Retransmissions stop here: the user of the layer sees every request once and every final response once
(but each 2xx to an INVITE, because each must be acknowledged).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

from orchestrator.sip.message.grammar import GrammarError
from orchestrator.sip.message.message import Request, Response, make_response
from orchestrator.sip.transaction.client import (
    ClientTransaction,
    InviteClientTransaction,
    NonInviteClientTransaction,
)
from orchestrator.sip.transaction.server import (
    InviteServerTransaction,
    NonInviteServerTransaction,
    ServerTransaction,
)
from orchestrator.sip.transaction.timers import Clock
from orchestrator.sip.transport.flow import Flow
from visavis.service.logs import Log

log = Log(__name__)

MAGIC = "z9hG4bK"
MAX_SERVER_TRANSACTIONS = 20_000
Key = tuple[str, ...]


class TransactionUser(Protocol):
    """Who is told of requests, ACKs and responses that are left over."""

    def on_request(self, transaction: ServerTransaction) -> None:
        """A new request (never ACK, never a retransmission). CANCEL arrives here too."""

    def on_ack(self, request: Request, flow: Flow) -> None:
        """An ACK that belongs to no transaction: the one for a 2xx."""

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        """A response to no live transaction, such as a 2xx sent again."""


def new_branch() -> str:
    return MAGIC + secrets.token_hex(10)


class TransactionLayer:
    """All transactions of one user agent."""

    def __init__(self, clock: Clock, user: TransactionUser) -> None:
        self._clock = clock
        self._user = user
        self._servers: dict[Key, ServerTransaction] = {}
        self._clients: dict[Key, ClientTransaction] = {}
        self._merge: dict[Key, Key] = {}

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    def receive(self, message: Request | Response, flow: Flow) -> None:
        """Take one parsed message. Raises GrammarError for headers that cannot be read."""
        if isinstance(message, Response):
            self._receive_response(message, flow)
        else:
            self._receive_request(message, flow)

    def request(
        self,
        request: Request,
        flow: Flow,
        on_response: Callable[[Response], None],
        on_failure: Callable[[int], None],
    ) -> ClientTransaction:
        """Send a request in a client transaction; its Via is put on top here.

        `on_failure` gets 408 for a timeout and 503 for a broken connection, in place of a final response.
        """
        branch = new_branch()
        request.headers.prepend("Via", f"SIP/2.0/{flow.transport} {flow.host_port};branch={branch};rport")
        return self._start(branch, request, flow, on_response, on_failure)

    def cancel(self, invite: ClientTransaction) -> None:
        """Send the CANCEL of an INVITE that has had a provisional response and no final one (section 9.1)."""
        if invite.state != "proceeding":
            return
        cancel = Request(method="CANCEL", uri=invite.request.uri)
        cancel.headers.add("Via", invite.request.headers.all("Via")[0])
        for name, value in invite.request.headers:
            if name.lower() in ("route", "max-forwards", "from", "to", "call-id"):
                cancel.headers.add(name, value)
        cancel.headers.add("CSeq", f"{invite.request.cseq[0]} CANCEL")
        invite.expect_end()
        self._start(invite.request.via.branch, cancel, invite.flow, lambda _: None, lambda _: None)

    def _start(
        self,
        branch: str,
        request: Request,
        flow: Flow,
        on_response: Callable[[Response], None],
        on_failure: Callable[[int], None],
    ) -> ClientTransaction:
        kind = InviteClientTransaction if request.method == "INVITE" else NonInviteClientTransaction
        key = (branch, request.method)
        transaction = kind(
            request, flow, self._clock, on_response, on_failure, lambda: self._forget_client(key)
        )
        self._clients[key] = transaction
        transaction.start()
        return transaction

    def find_invite(self, cancel: Request) -> ServerTransaction | None:
        """The INVITE transaction a CANCEL is meant for (section 9.2)."""
        return self._servers.get(_server_key(cancel, "INVITE"))

    def is_merged(self, transaction: ServerTransaction) -> bool:
        """Whether the same request came before over another path (section 8.2.2.2): answer 482."""
        owner = self._merge.get(_merge_key(transaction.request))
        return owner is not None and owner != transaction.key

    def close(self) -> None:
        for server in list(self._servers.values()):
            server.terminate()
        for client in list(self._clients.values()):
            client.terminate()

    def _receive_request(self, request: Request, flow: Flow) -> None:
        method = "INVITE" if request.method == "ACK" else request.method
        key = _server_key(request, method)
        existing = self._servers.get(key)
        if existing is not None and (existing.receive(request, flow) or request.method != "ACK"):
            return
        if request.method == "ACK":
            self._user.on_ack(request, flow)
            return
        if len(self._servers) >= MAX_SERVER_TRANSACTIONS:
            return  # a flood: the sender tries again, or does not
        kind = InviteServerTransaction if method == "INVITE" else NonInviteServerTransaction
        merge = _merge_key(request)
        transaction = kind(request, flow, self._clock, key, lambda: self._forget_server(key, merge))
        self._servers[key] = transaction
        self._merge.setdefault(merge, key)
        try:
            self._user.on_request(transaction)
        except GrammarError as error:
            if not transaction.final_sent:
                transaction.respond(make_response(request, 400, f"Bad Request ({error})"))
        except Exception:
            log.exception("request_failed", method=request.method)
            if not transaction.final_sent:
                transaction.respond(make_response(request, 500))

    def _receive_response(self, response: Response, flow: Flow) -> None:
        transaction = self._clients.get((response.via.branch, response.cseq[1]))
        if transaction is not None:
            transaction.receive(response)
        else:
            self._user.on_stray_response(response, flow)

    def _forget_server(self, key: Key, merge: Key) -> None:
        self._servers.pop(key, None)
        if self._merge.get(merge) == key:
            del self._merge[merge]

    def _forget_client(self, key: Key) -> None:
        self._clients.pop(key, None)


def _server_key(request: Request, method: str) -> Key:
    """Section 17.2.3; without the magic cookie the RFC 2543 rules, on what an ACK and a CANCEL repeat."""
    via = request.via
    if via.branch.startswith(MAGIC) and len(via.branch) > len(MAGIC):
        return (via.branch, via.host.lower(), str(via.port), method)
    try:
        tag = request.from_.tag or ""
    except GrammarError:
        tag = ""
    return (request.uri, request.call_id, tag, str(request.cseq[0]), str(via), method)


def _merge_key(request: Request) -> Key:
    return (request.call_id, request.from_.tag or "", str(request.cseq[0]), request.method)
