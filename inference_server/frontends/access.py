"""Who may call what over gRPC: the interceptor, and what each method needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

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


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses a call before its first message is read."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        scope = scope_of(handler_call_details.method)
        if handler is None or scope == "":
            return handler
        sent = [value for key, value in handler_call_details.invocation_metadata if key == "authorization"]
        try:
            if scope is None:
                raise Refused("This method is served to nobody.", unauthenticated=False)
            self._guard.check(str(sent[0]) if len(sent) == 1 else "", scope)
        except Refused as refused:
            return _refusing(handler, refused)
        return handler


def _refusing(handler: Any, refused: Refused) -> Any:
    """A handler of the same kind that ends the call with the reason."""

    async def abort(_: Any, context: Any) -> None:
        if handler.request_streaming:
            await asyncio.sleep(SETTLE_S)
        await context.abort(_CODES[refused.unauthenticated], refused.sentence)

    kind = "_".join(
        "stream" if streaming else "unary"
        for streaming in (handler.request_streaming, handler.response_streaming)
    )
    return getattr(grpc, f"{kind}_rpc_method_handler")(abort)
