"""Who may call what over gRPC: the interceptor, and what each method needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from inference_server.frontends.receiving import Receiving
from inference_server.settings import Settings
from visavis.service.security import FLEET_SCOPES, FleetScope, Grant, Guard, Refused, Tokens

HELP = (
    "give the client what visavis-token fleet prints where this server runs (VISAVIS_TOKEN, or the token file), or "
    "set VISAVIS_INFERENCE_INSECURE=true while clients that know of none are upgraded."
)
SERVICE_SCOPES: dict[str, FleetScope] = {
    "GetCapabilities": "stream",
    "WatchCapacity": "stream",
    "FetchBody": "stream",
    "Converse": "stream",
    "PrepareAvatar": "prepare",
    "UploadAvatar": "prepare",
    "ExportAvatar": "server",
    "ImportAvatar": "server",
}
"""By the contract's methods; what is not named here nobody may call."""
SETTLE_S = 0.1
"""A call that is refused while its client writes tells grpc.aio an internal error in place of the reason: what the
client wrote at once has gone by then, and nothing of it was read."""
_OPEN = "/grpc.health.v1.Health/"
_OF_TOOLS = "/grpc.reflection."
_CODES = {True: grpc.StatusCode.UNAUTHENTICATED, False: grpc.StatusCode.PERMISSION_DENIED}


def make_guard(settings: Settings) -> Guard:
    """The guard of both faces."""
    return Guard(
        Tokens(settings.token_file, FLEET_SCOPES),
        FLEET_SCOPES,
        HELP,
        insecure=settings.insecure,
        certificates=bool(settings.tls.client_ca),
    )


def scope_of(method: str) -> str | None:
    """What a method (``/package.Service/Method``) needs: "" nothing, ``None`` is served to nobody."""
    if method.startswith(_OPEN):
        return ""
    if method.startswith(_OF_TOOLS):
        return "stream"
    return SERVICE_SCOPES.get(method.rpartition("/")[2])


def client_name(grant: Grant | None, address: str) -> str:
    """Whose share it is: the token's, from however many addresses it is used; the address's where there is none."""
    return address if grant is None or grant.shared else f"token {grant.name}"


def address_of(peer: str) -> str:
    """Of ``ipv4:127.0.0.1:5000`` the middle."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else kind


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses a call before its first message is read, and has the others' read in turn."""

    def __init__(self, guard: Guard, receiving: Receiving | None = None) -> None:
        self._guard = guard
        self._receiving = receiving or Receiving()

    def client(self, context: Any) -> str:
        """Who asks."""
        sent = [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
        grant = self._guard.known(sent[0]) if sent else None
        return client_name(grant, address_of(context.peer()))

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        scope = scope_of(method)
        if handler is None:
            return None
        if scope == "":
            return self._in_turn(handler, method)
        sent = [value for key, value in handler_call_details.invocation_metadata if key == "authorization"]
        try:
            if scope is None:
                raise Refused("This method is served to nobody.", unauthenticated=False)
            self._guard.check(str(sent[0]) if len(sent) == 1 else "", scope)
        except Refused as refused:
            return _refusing(refused)
        return self._in_turn(handler, method)

    def _in_turn(self, handler: Any, method: str) -> Any:
        if not handler.request_streaming:
            return self._receiving.unary(handler, self.client)
        return self._receiving.tool(handler, self.client) if method.startswith(_OF_TOOLS) else handler


def _refusing(refused: Refused) -> Any:
    """A handler of any kind of call that ends it with the reason; what was sent is not asked for."""

    async def abort(_: Any, context: Any) -> None:
        await asyncio.sleep(SETTLE_S)
        await context.abort(_CODES[refused.unauthenticated], refused.sentence)

    return grpc.stream_stream_rpc_method_handler(abort)
