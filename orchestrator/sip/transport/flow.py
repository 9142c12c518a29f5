"""A flow: where a message came from, and the way back there (RFC 3261 section 18.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.sip.message.message import Request

Address = tuple[str, int]

DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061}


def bracketed(host: str) -> str:
    """An IPv6 literal in brackets, as URIs and Via want it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


@dataclass(slots=True, eq=False)
class Flow:
    """One UDP peer address or one TCP/TLS connection.

    `local` is the address the peer reaches us at; `sender` never raises; only connections are ever `closed`.
    """

    transport: str
    local: Address
    remote: Address
    sender: Callable[[bytes, Address], None]
    sent_by: str = ""
    closed: bool = False
    on_close: list[Callable[[], None]] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.sender(data, self.remote)

    def reply_to(self, port: int) -> Flow:
        """The same way back to another port of the sender (section 18.2.2: a Via without rport)."""
        return replace(self, remote=(self.remote[0], port))

    @property
    def reliable(self) -> bool:
        return self.transport != "UDP"

    @property
    def host_port(self) -> str:
        return self.sent_by or f"{bracketed(self.local[0])}:{self.local[1]}"

    def contact_uri(self, user: str = "") -> str:
        """Our URI on this flow, with the transport that reaches it."""
        userinfo = f"{user}@" if user else ""
        suffix = "" if self.transport == "UDP" else f";transport={self.transport.lower()}"
        return f"sip:{userinfo}{self.host_port}{suffix}"


def stamp_via(request: Request, flow: Flow) -> None:
    """Note in the topmost Via where the request came from: `received`, and `rport` where asked for (RFC 3581)."""
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
    """The way back for responses (RFC 3261 section 18.2.2).

    The connection, else the source's port where rport asks for it, else the port Via names.
    """
    if flow.reliable:
        return flow
    via = request.via
    port = flow.remote[1] if "rport" in via.params else (via.port or DEFAULT_PORTS["UDP"])
    return flow if port == flow.remote[1] else flow.reply_to(port)
