"""The topmost Via of a request: what we note in it and where its responses go (RFC 3261 section 18.2, RFC 3581)."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.sip.message.message import Request
from orchestrator.sip.transport.flow import DEFAULT_PORTS, Flow


def stamp_via(request: Request, flow: Flow) -> None:
    """Put `received` and `rport` into the topmost Via."""
    _, *others = request.headers.values("Via")
    via = request.via
    params = {name: value for name, value in via.params.items() if name not in ("received", "rport")}
    wants_port = "rport" in via.params
    if wants_port:
        params["rport"] = str(flow.remote[1])
    if wants_port or via.bare_host.lower() != flow.remote[0].lower():
        params["received"] = flow.remote[0]
    if params == via.params:
        return
    request.headers.remove("Via")
    for value in reversed([str(replace(via, params=params)), *others]):
        request.headers.prepend("Via", value)


def reply_flow(request: Request, flow: Flow) -> Flow:
    """The way back: the connection, else the source's port where rport asks for it, else the port Via names."""
    if flow.reliable:
        return flow
    via = request.via
    port = flow.remote[1] if "rport" in via.params else (via.port or DEFAULT_PORTS["UDP"])
    return flow if port == flow.remote[1] else flow.reply_to(port)
