"""The transport of a call from a browser: all streams over one socket, behind ICE-lite and DTLS-SRTP."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from OpenSSL import SSL

from orchestrator.media.clock import SLOT_SECONDS, MediaClock
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.stream_socket import OnRtcp, OnRtp
from orchestrator.rtp.agreed import Address
from orchestrator.rtp.bundle import BundleAgreement
from orchestrator.rtp.dtls import DtlsServer, is_dtls, server_context
from orchestrator.rtp.ice import IceLite
from orchestrator.rtp.packet import MalformedPacket, looks_like_rtcp, parse_header
from orchestrator.rtp.srtp import Protection
from orchestrator.rtp.stun import looks_like_stun

STEPS_PER_SLOT = 2
"""Datagrams of handshakes that are taken in a slot: the longest step takes over half a millisecond."""
MOST_WAITING = 256
CONSENT_SECONDS = 10.0
"""A peer that sends no connectivity check for so long is gone (browsers send one every few seconds, RFC 7675)."""
FIRST_CHECK_SECONDS = 15.0
_WATCH_SECONDS = 0.25
_ALERT_SECONDS = 2.0

Event = Literal["secured", "left", "lost", "failed"]
OnEvent = Callable[[Event, str], None]
"""What became of a transport, and one sentence: keys are there, the peer said goodbye, it cannot be reached (any
more), or it is not the one that signalling spoke to."""


class DatagramPath(Protocol):
    """What carries the datagrams of a transport."""

    @property
    def port(self) -> int: ...

    def send(self, data: bytes, to: Address) -> None:
        """Raises ``OSError``."""

    def claim(self, ufrag: str, owner: BundleTransport) -> None:
        """Checks that name this user fragment, and what comes from where they came, are for this transport."""

    def close(self) -> None: ...


class Handshakes:
    """What all transports of a process share: the certificate, and the clock slots that handshakes may take."""

    def __init__(self, identity: str, clock: MediaClock) -> None:
        self.clock = clock
        self._identity = identity
        self._context: SSL.Context | None = None
        self._waiting: deque[tuple[BundleTransport, bytes, Address]] = deque(maxlen=MOST_WAITING)
        self._transports: dict[BundleTransport, None] = {}
        self._watch_at = 0.0

    @property
    def context(self) -> SSL.Context:
        """Made for the first call that needs it. Raises ``ValueError`` where there is no certificate."""
        if self._context is None:
            if not self._identity:
                raise ValueError("this worker has no certificate for DTLS")
            self._context = server_context(self._identity)
        return self._context

    def add(self, transport: BundleTransport) -> None:
        """Watch over it until it is removed."""
        self._transports[transport] = None

    def remove(self, transport: BundleTransport) -> None:
        """It is closed."""
        self._transports.pop(transport, None)

    def put(self, transport: BundleTransport, datagram: bytes, source: Address) -> None:
        """A datagram that waits for its slot; of too many the oldest are dropped, and sent again by their peers."""
        self._waiting.append((transport, datagram, source))

    def hurry(self) -> None:
        """Look for datagrams in every slot for a while, also while no call runs."""
        wheel = self.clock.wheel
        wheel.alert_until = max(wheel.alert_until, wheel.time_of(wheel.slot) + _ALERT_SECONDS)

    def step(self, now: float) -> None:
        """Called once a slot, when audio has been sent."""
        for _ in range(min(STEPS_PER_SLOT, len(self._waiting))):
            transport, datagram, source = self._waiting.popleft()
            transport.shake(datagram, source, now)
        if now >= self._watch_at:
            self._watch_at = now + (SLOT_SECONDS if self._waiting else _WATCH_SECONDS)
            for transport in list(self._transports):
                transport.watch(now)


class BundleTransport:
    """One peer's transport. Nothing that it sends raises out of here, and nothing is sent to an address before a
    check has authenticated it."""

    def __init__(self, path: DatagramPath, handshakes: Handshakes, on_event: OnEvent) -> None:
        self.ice = IceLite()
        self.strays = 0
        self.stray_source = ""
        self.malformed = 0
        self.rejected = 0
        self._path = path
        self._handshakes = handshakes
        self._on_event = on_event
        self._agreed: BundleAgreement | None = None
        self._dtls: DtlsServer | None = None
        self._dtls_peer: Address | None = None
        self._protection: Protection | None = None
        self._ports: list[BundlePort] = []
        self._by_type: dict[int, BundlePort] = {}
        self._waits_since: float | None = None
        self._over = False

    @property
    def port(self) -> int:
        return self._path.port

    @property
    def secured(self) -> bool:
        """Whether there are keys: media can be sent."""
        return self._protection is not None

    def agree(self, agreed: BundleAgreement) -> None:
        """Take what was negotiated: another ufrag restarts ICE, another fingerprint DTLS (RFC 8842 section 4)."""
        handshakes = self._handshakes
        old, self._agreed = self._agreed, agreed
        if old == agreed:
            return
        self.ice.agree(agreed.own, agreed.remote_ufrag)
        self._path.claim(agreed.own.ufrag, self)
        if old is None or old.fingerprint != agreed.fingerprint:
            self._dtls = DtlsServer(handshakes.context, agreed.fingerprint)
        if old is None:
            self._waits_since = handshakes.clock.wheel.time_of(handshakes.clock.wheel.slot)
            handshakes.add(self)
        handshakes.hurry()

    def open_port(
        self, on_rtp: OnRtp | None, on_rtcp: OnRtcp, on_open: Callable[[], None] | None = None
    ) -> BundlePort:
        """A stream of the bundle."""
        port = BundlePort(self, on_rtp, on_rtcp)
        self._ports.append(port)
        return port

    def close_port(self, port: BundlePort) -> None:
        """The stream is over; with the last one the transport is: it says close_notify."""
        if port not in self._ports:
            return
        self._ports.remove(port)
        self.route(port, ())
        if not self._ports:
            self.close()

    def route(self, port: BundlePort, payload_types: Iterable[int]) -> None:
        """These payload types are this stream's."""
        self._by_type = {number: owner for number, owner in self._by_type.items() if owner is not port}
        self._by_type |= dict.fromkeys(payload_types, port)

    def close(self) -> None:
        """Say goodbye and give the socket back; harmless when called again."""
        if not self._over:
            self._say_goodbye()
        self._over = True
        self._handshakes.remove(self)
        self._protection = None
        self._ports.clear()
        self._by_type.clear()
        self._path.close()

    def send(self, packet: bytes | bytearray) -> int:
        """Protect and send RTP; 0: there are no keys yet. Raises ``OSError``."""
        protection, target = self._protection, self.ice.selected
        if protection is None or target is None:
            return 0
        self._path.send(protection.protect(packet), target)
        return len(packet)

    def send_rtcp(self, packet: bytes) -> None:
        """The same for RTCP."""
        protection, target = self._protection, self.ice.selected
        if protection is not None and target is not None:
            self._path.send(protection.protect_rtcp(packet), target)

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """A datagram, sorted by its first octet (RFC 7983)."""
        if not data or self._over:
            return
        first = data[0]
        if first >= 128:
            self._take_media(data, now)
        elif looks_like_stun(data):
            answer = self.ice.receive(data, source, now)
            if answer is None:
                self._stray(source)
            else:
                self._send(answer, source)
                if self._protection is None:
                    self._handshakes.hurry()
        elif is_dtls(first) and self.ice.is_checked(source):
            self._handshakes.put(self, data, source)
        else:
            self._stray(source)

    def shake(self, datagram: bytes, source: Address, now: float) -> None:
        """A datagram of DTLS whose slot has come."""
        dtls = self._dtls
        if dtls is None or self._over:
            return
        self._dtls_peer = source
        fresh = dtls.keys is None
        for answer in dtls.receive(datagram, now):
            self._send(answer, source)
        if dtls.failed:
            self._end("failed", dtls.failed)
        elif dtls.closed:
            self._end("left", "the browser closed its transport")
        elif fresh and dtls.keys is not None:
            self._protection = Protection(dtls.keys)
            self._on_event("secured", "")

    def watch(self, now: float) -> None:
        """Called a few times a second: flights that are due again, a peer that is gone."""
        dtls = self._dtls
        if dtls is not None and self._dtls_peer is not None:
            for datagram in dtls.repeats(now):
                self._send(datagram, self._dtls_peer)
        if self._waits_since is None or self._over:
            return
        if not self.ice.checks:
            if now - self._waits_since > FIRST_CHECK_SECONDS:
                self._end(
                    "lost", "no connectivity check came: neither UDP nor TCP gets here from the browser"
                )
        elif now - self.ice.heard > CONSENT_SECONDS:
            self._end("lost", f"no connectivity check came for {CONSENT_SECONDS:.0f} s: the browser is gone")

    def _end(self, event: Event, reason: str) -> None:
        self._over = True
        self._protection = None
        self._handshakes.remove(self)
        self._on_event(event, reason)

    def _say_goodbye(self) -> None:
        if self._dtls is not None and self.ice.selected is not None:
            for datagram in self._dtls.close():
                self._send(datagram, self.ice.selected)

    def _send(self, data: bytes, to: Address) -> None:
        with contextlib.suppress(OSError):  # the peer asks again
            self._path.send(data, to)

    def _stray(self, source: Address) -> None:
        self.strays += 1
        self.stray_source = source[0]

    def _take_media(self, data: bytes, now: float) -> None:
        protection = self._protection
        if protection is None or len(data) < 2:
            return
        if looks_like_rtcp(data[1]):
            report = protection.unprotect_rtcp(data)
            if report is None:
                self.rejected += 1
                return
            for port in self._ports:
                port.reported(report, now)
            return
        owner = self._by_type.get(data[1] & 0x7F)
        if owner is None or owner.on_rtp is None:
            return  # a camera
        plain = protection.unprotect(data)
        if plain is None:
            self.rejected += 1
            return
        owner.received(bytearray(plain), now)


class BundlePort:
    """One stream of a bundle: implements :class:`orchestrator.media.stream_socket.StreamSocket`."""

    def __init__(self, transport: BundleTransport, on_rtp: OnRtp | None, on_rtcp: OnRtcp) -> None:
        self.deliver: Callable[[bytes | bytearray], int] = transport.send
        self.on_rtp = on_rtp
        self.malformed = 0
        self.withheld = 0
        self.send_errors = 0
        self._transport = transport
        self._on_rtcp = on_rtcp
        self._heard = float("-inf")
        self._reported = float("-inf")

    @property
    def port(self) -> int:
        return self._transport.port

    @property
    def remote(self) -> Address | None:
        return self._transport.ice.selected

    @property
    def signalled(self) -> Address | None:
        return None

    @property
    def strays(self) -> int:
        return self._transport.strays

    @property
    def stray_source(self) -> str:
        return self._transport.stray_source

    @property
    def rejected(self) -> int:
        return self._transport.rejected

    def agree(self, media: AudioParameters | VideoParameters, now: float) -> None:
        """Its payload types, where it hears anything at all."""
        if isinstance(media, AudioParameters):
            numbers = (media.payload_type, media.telephone_event, media.comfort_noise)
            self._transport.route(self, [number for number in numbers if number is not None])

    def acknowledged(self, now: float) -> None:
        """Nothing to learn: ICE finds the peer."""

    def send_rtcp(self, packet: bytes) -> None:
        try:
            self._transport.send_rtcp(packet)
        except OSError:
            self.send_errors += 1

    def heard_ago(self, now: float) -> float:
        return now - self._heard

    def anything_ago(self, now: float) -> float:
        return now - max(self._heard, self._reported)

    def watch(self, now: float) -> None:
        """The transport is watched as a whole."""

    def reopen(self) -> None:
        """The transport hears everybody at any time."""

    def close(self) -> None:
        self.on_rtp, self._on_rtcp = None, _ignored
        self._transport.close_port(self)

    def received(self, packet: bytearray, now: float) -> None:
        """RTP of this stream, plain."""
        try:
            head = parse_header(packet)
        except MalformedPacket:
            self.malformed += 1
            return
        self._heard = now
        if self.on_rtp is not None:
            self.on_rtp(head, packet, now)

    def reported(self, report: bytes, now: float) -> None:
        """RTCP of the bundle, plain."""
        try:
            self._on_rtcp(report, now)
        except MalformedPacket:
            self.malformed += 1
            return
        self._reported = now


def _ignored(data: bytes, now: float) -> None:
    """Nobody reads a stream that is closed."""
