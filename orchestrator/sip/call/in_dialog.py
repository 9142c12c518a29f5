"""The interface of a call to the requests inside its dialog: INFO, REFER and further offers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, Self

from orchestrator.sip.agent.client import Caller
from orchestrator.sip.call.events import CallEvents, EndCause
from orchestrator.sip.call.invite import Acks
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.sdp.capabilities import MediaCapabilities
from orchestrator.sip.sdp.session import SdpSession
from orchestrator.sip.transaction.server import ServerTransaction

P = ParamSpec("P")


class InDialog(Caller, Protocol):
    """A call whose dialog exists; `call.Call` says what each of these is and does."""

    state: str
    capabilities: MediaCapabilities
    session: SdpSession
    acks: Acks

    @property
    def direction(self) -> str: ...

    @property
    def handler(self) -> CallEvents[Self]: ...

    @property
    def offering(self) -> bool: ...

    @property
    def offer_open(self) -> bool: ...

    @property
    def offered(self) -> bool: ...

    @property
    def negotiable(self) -> bool: ...

    @property
    def awaits_ack(self) -> bool: ...

    def emit(
        self, event: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
    ) -> None: ...

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str | None = None,
        *,
        body: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Response: ...

    def answer_transaction(self, transaction: ServerTransaction, body: str, *, is_reinvite: bool) -> None: ...

    def prepare(self, request: Request, body: str) -> None: ...

    def renegotiated(self) -> None: ...

    def on_refreshed(self, response: Response) -> None: ...

    def fail(self, cause: EndCause) -> None: ...
