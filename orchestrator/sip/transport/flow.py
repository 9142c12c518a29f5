"""A flow: where a message came from and how to send one back there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
