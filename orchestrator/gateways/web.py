"""Calls from browsers: SIP over WebSocket (RFC 7118), media over ICE and DTLS-SRTP."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.calls.gateway import DialOrder, DialRefused
from orchestrator.calls.registry import CallRegistry
from orchestrator.config import Settings
from orchestrator.gateways.ice_servers import ice_servers
from orchestrator.gateways.ice_tcp import IceTcp
from orchestrator.gateways.sip import SipGateway, SipInvitation, SipSignalling
from orchestrator.gateways.sip_settings import sip_config
from orchestrator.rtp.agreed import Address
from orchestrator.rtp.bundle import Fingerprint
from orchestrator.rtp.ice import IceCredentials
from orchestrator.sip.call.call import Call as SipCall
from orchestrator.sip.call.events import EndCause
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.message.parsing import MAX_FRAME
from orchestrator.sip.sdp.bundle import candidate
from orchestrator.sip.sdp.capabilities import BundleCapabilities, MediaCapabilities, NotAcceptable
from orchestrator.sip.sdp.description import SessionDescription
from orchestrator.sip.stack import SipStack
from orchestrator.sip.transport.flow import Flow
from orchestrator.sip.transport.locate import is_address
from orchestrator.worker.messages import CallOpened
from visavis.service.logs import Log
from visavis.service.supervisor import Supervisor

log = Log(__name__)

PATH = "/v1/sip"
MOST_CONNECTIONS = 1000
MOST_UNSENT = 256
RESOLVE_S = 1.0
_KEEPALIVE = b"\r\n"
_WITHOUT = frozenset({"goog-remb", "ccm tmmbr"})
"""Feedback that browsers give without header extensions that we do not send, and far too low."""


class WebConnection:
    """One WebSocket; ``outgoing`` is what is to be sent over it, None where it is to be closed."""

    def __init__(self, gateway: WebGateway, local: Address, remote: Address, host: Address) -> None:
        self.outgoing: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_UNSENT)
        self.host = host
        """What the ``Host`` header names: address and port."""
        self._gateway = gateway
        self.flow = gateway.stack.connect("WS", local, remote, self._send)

    def received(self, data: bytes) -> None:
        """One frame: a whole message, or a keepalive. Nothing in it makes this raise."""
        if len(data) > MAX_FRAME:
            self._close()
        elif data.strip():
            self._gateway.stack.receive(data, self.flow)
        else:
            self._send(_KEEPALIVE, self.flow.remote)

    def gone(self) -> None:
        """The browser has closed it, or the network has; its calls go on."""
        self._gateway.disconnected(self)

    def _send(self, data: bytes, _: Address) -> None:
        try:
            self.outgoing.put_nowait(data)
        except asyncio.QueueFull:  # a page that stopped reading
            self._close()

    def _close(self) -> None:
        while not self.outgoing.empty():
            self.outgoing.get_nowait()
        self.outgoing.put_nowait(None)


class WebInvitation(SipInvitation):
    """A browser's call. ICE credentials are its own, and new ones when the browser restarts ICE."""

    def __init__(
        self,
        settings: Settings,
        registry: CallRegistry,
        sip: IncomingCall,
        fingerprint: Fingerprint,
        host: Address,
        on_ufrag: Callable[[WebInvitation, str, int], None],
    ) -> None:
        super().__init__(settings, registry, sip)
        self._fingerprint = fingerprint
        self._host = host
        self._on_ufrag = on_ufrag
        self._credentials: IceCredentials | None = None
        self._remote_ufrag = ""
        self._offer = sip.offer

    def answer(self, ports: CallOpened) -> None:
        """Raises NotAcceptable, CallEnded."""
        if self._offer is None:
            raise NotAcceptable("a call over WebSocket must bring an offer")
        super().answer(ports)

    def capabilities(self, offer: SessionDescription | None = None) -> MediaCapabilities:
        assert self._ports is not None
        able = super().capabilities()
        remote_ufrag = _ufrag_of(offer or self._offer)
        if self._credentials is None or (remote_ufrag and remote_ufrag != self._remote_ufrag):
            self._credentials, self._remote_ufrag = IceCredentials.fresh(), remote_ufrag
            self._on_ufrag(self, self._credentials.ufrag, self._ports.audio_port)
        video = able.video and replace(able.video, feedback=able.video.feedback - _WITHOUT)
        bundle = BundleCapabilities(
            self._credentials,
            self._fingerprint,
            candidates(
                "" if self._settings.advertised_address else self._settings.sip_host,
                able.address,
                self._host,
                self._ports.audio_port,
            ),
        )
        return replace(able, video=video, bundle=bundle)


class WebGateway(SipGateway):
    """Implements :class:`orchestrator.calls.gateway.Gateway`; whoever holds the WebSockets calls ``connect``.

    Who may connect has been decided there: a network that phones may call from is none of its concern.
    """

    bundled = True

    def __init__(
        self,
        settings: Settings,
        registry: CallRegistry,
        fingerprint: Fingerprint,
        supervisor: Supervisor | None = None,
    ) -> None:
        everybody = ("0.0.0.0/0", "::/0")
        config = replace(
            sip_config(settings), udp=(), tcp=(), tls=(), users={}, accounts=(), allow_from=everybody
        )
        super().__init__(settings, registry, supervisor, config)
        self._fingerprint = fingerprint
        bound = settings.sip_host
        self.tcp = IceTcp({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound, bound), self.media_port)
        """Media of browsers that no UDP gets to."""
        self._connections: set[WebConnection] = set()
        self._by_flow: dict[Flow, WebConnection] = {}
        self._media: dict[str, tuple[str, int]] = {}
        self._is_up = False

    @property
    def stack(self) -> SipStack:
        return self._stack

    @property
    def addresses(self) -> Mapping[str, Sequence[str]]:
        """The path of the WebSocket at the API."""
        return {"WS": [PATH]} if self._is_up else {}

    async def start(self) -> None:
        await super().start()
        self._is_up = True

    def dial(self, call_id: str, order: DialOrder, ports: CallOpened) -> SipSignalling:
        """Raises :class:`DialRefused`: browsers call, and are not called."""
        raise DialRefused("a browser cannot be called: open the console there and press Call")

    async def connect(self, local: Address, remote: Address, host: str) -> WebConnection | None:
        """A browser has opened a WebSocket and named ``host`` (address, perhaps port); None: there are too many."""
        if not self._is_up or len(self._connections) >= MOST_CONNECTIONS:
            return None
        connection = WebConnection(self, local, remote, await named_address(host, local))
        self._connections.add(connection)
        self._by_flow[connection.flow] = connection
        return connection

    def disconnected(self, connection: WebConnection) -> None:
        """A WebSocket is gone."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._by_flow.pop(connection.flow, None)
            self._stack.disconnect(connection.flow)

    def ice_servers(self, now: float) -> list[dict[str, Any]]:
        """For browsers; ``now`` in Unix seconds."""
        settings = self._settings
        return ice_servers(settings.web_ice_servers, settings.web_turn_secret.reveal(), now, "visavis")

    def media_port(self, ufrag: str) -> int | None:
        """The UDP port of the call whose checks carry this user fragment of ours."""
        found = self._media.get(ufrag)
        return found[1] if found else None

    async def close(self) -> None:
        self._is_up = False
        await super().close()
        self.tcp.close()
        for connection in list(self._connections):
            with contextlib.suppress(asyncio.QueueFull):
                connection.outgoing.put_nowait(None)

    def _invitation(self, call: IncomingCall) -> SipInvitation:
        connection = self._by_flow.get(call.dialog.flow)
        host = connection.host if connection is not None else ("", 0)
        return WebInvitation(self._settings, self._registry, call, self._fingerprint, host, self._took_ufrag)

    def _took_ufrag(self, invitation: WebInvitation, ufrag: str, port: int) -> None:
        call = invitation.sip.id
        own = [name for name, (owner, _) in self._media.items() if owner == call]
        for name in own[:-1]:  # only the one before is still in use while ICE restarts
            del self._media[name]
        self._media[ufrag] = (call, port)

    async def on_reoffer(self, call: SipCall, offer: SessionDescription | None) -> MediaCapabilities:
        if offer is None:
            raise NotAcceptable("a re-INVITE over WebSocket must bring an offer")
        return await super().on_reoffer(call, offer)

    async def on_ended(self, call: SipCall, cause: EndCause) -> None:
        self._media = {name: one for name, one in self._media.items() if one[0] != call.id}
        await super().on_ended(call, cause)


def candidates(bound: str, address: str, host: Address, port: int) -> tuple[str, ...]:
    """Values of a=candidate: where we are reached, and where the browser believes that it has reached us, by UDP;
    the latter by TCP as well.

    ``bound`` is what media sockets are bound to, "" where ``address`` is advertised whatever that is; ``host`` what
    the browser's ``Host`` header names, ``port`` the call's.
    """
    own = address if bound in ("", "0.0.0.0", "::") else bound
    reached = [own, *([host[0]] if is_address(host[0]) else [])]
    # Sockets that are bound to an IPv4 address hear nothing by IPv6; those of :: hear both.
    heard = [each for each in reached if bound in ("", "::") or (":" in each) == (":" in bound)]
    udp = list(dict.fromkeys(heard))
    lines = [candidate(1 + index, "udp", each, port, 65535 - index) for index, each in enumerate(udp)]
    if host[0]:
        lines.append(candidate(1 + len(udp), "tcp", *host, 65535))
    return tuple(lines)


async def named_address(host: str, local: Address) -> Address:
    """The address and port that a ``Host`` header names, as browsers can take it for a candidate; the port is 80
    where it names none. A name that cannot be looked up here stays as it is."""
    name, _, port_text = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "80")
    name = name.strip("[]")
    port = int(port_text) if port_text.isdigit() and 0 < int(port_text) < 65536 else 80
    if name == "localhost":
        name = "::1" if ":" in local[0] else "127.0.0.1"
    if not name or is_address(name):
        return name, port
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, UnicodeError, TimeoutError):
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        usable = [info[4][0] for info in found if not ipaddress.ip_address(str(info[4][0])).is_loopback]
        if usable:
            return str(usable[0]), port
    return name if name.isascii() and all(part.isalnum() or part in "-." for part in name) else "", port


def _ufrag_of(offer: SessionDescription | None) -> str:
    if offer is None:
        return ""
    return next((ufrag for media in offer.media for ufrag in offer.values_of(media, "ice-ufrag")), "")
