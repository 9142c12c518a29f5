"""The sockets of one stream: polled at the media clock, latched, connected once the peer is known."""

from __future__ import annotations

import ctypes
import ipaddress
import select
import socket
import struct
from collections.abc import Callable

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.stream_socket import OnRtcp, OnRtp
from orchestrator.rtp.agreed import Address, SrtpKeys
from orchestrator.rtp.consent import Consent, SignallingPeer
from orchestrator.rtp.latch import Latch
from orchestrator.rtp.packet import MalformedPacket, looks_like_rtcp, parse_header
from orchestrator.rtp.ports import PortPair
from orchestrator.rtp.srtp import Protection
from visavis.service.logs import Log

log = Log(__name__)

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_BUFFER_SIZE = 2048
_ROUNDS = 4
_SILENCE_BEFORE_REOPEN = 2.0
_libc = ctypes.CDLL(None, use_errno=True)

# Classic BPF over a UDP datagram, whose payload begins at byte 8: (code, jump true, jump false, value).
_DROP_ALL = ((0x06, 0, 0, 0),)
_KEEP_RTCP = ((0x30, 0, 0, 9), (0x35, 0, 2, 192), (0x25, 1, 0, 223), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))


def _is_nowhere(address: Address) -> bool:
    """Whether packets for this address have nowhere to go; names are not looked up on the media clock."""
    try:
        parsed = ipaddress.ip_address(address[0])
    except ValueError as error:
        raise ValueError(f"media address {address[0]!r} is no IP address") from error
    if parsed.is_multicast or str(parsed) == "255.255.255.255":
        raise ValueError(f"media address {address[0]} is not that of one machine")
    return parsed.is_unspecified or not 0 < address[1] < 65536


def _ignored(data: bytes, now: float) -> None:
    """Nobody reads a socket that is closed."""


def _undelivered(packet: bytes | bytearray) -> int:
    raise OSError("the socket is closed")


class Poller:
    """One epoll set for all sockets of a process; of one socket, a few packets at most are read a poll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[float], None]] = {}

    def add(self, fd: int, reader: Callable[[float], None]) -> None:
        """Call ``reader(now)`` at each poll that finds something to read."""
        self._readers[fd] = reader
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Forget a socket that is about to be closed."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def poll(self, now: float) -> None:
        """Read what has arrived."""
        readers = self._readers
        for _ in range(_ROUNDS):
            events = self._epoll.poll(0)
            if not events:
                return
            for fd, _event in events:
                reader = readers.get(fd)
                if reader is None:
                    continue
                try:
                    reader(now)
                except Exception:
                    log.exception("inbound_packet_failed")

    def close(self) -> None:
        """Close the epoll set."""
        self._epoll.close()


def _nobody() -> None:
    """Nobody waits for a stream to open."""


class MediaSocket:
    """RTP and RTCP of one stream: implements :class:`orchestrator.media.stream_socket.StreamSocket`.

    ``consent`` is shared by the streams of a call. A stream without ``on_rtp`` is the picture's: it is sent to
    nobody before the address has proved itself, and ``on_open`` is called when it has and something was withheld.
    """

    def __init__(
        self,
        pair: PortPair,
        poller: Poller,
        on_rtp: OnRtp | None,
        on_rtcp: OnRtcp,
        consent: Consent | None = None,
        on_open: Callable[[], None] = _nobody,
    ) -> None:
        self.port = pair.port
        self.malformed = 0
        self.strays = 0
        """What came from those whom the stream does not belong to."""
        self.stray_source = ""
        self.withheld = 0
        """What was not sent, since its address has not shown that it wants it."""
        self.rejected = 0
        """What SRTP did not let through."""
        self.send_errors = 0
        self._pair = pair
        self._rtp, self._rtcp = pair.rtp, pair.rtcp
        self._poller = poller
        self._on_rtp, self._on_rtcp = on_rtp, on_rtcp
        self._consent = consent if consent is not None else Consent()
        self._on_open = on_open
        self._follows = on_rtp is None
        self._closed_to_peer = False
        self._latch: Latch | None = None
        self._remote_rtcp: Address | None = None
        self._mux = False
        self._connected = False
        self._peer = SignallingPeer()
        self._rtcp_heard = float("-inf")
        self._buffer = bytearray(_BUFFER_SIZE)
        self._protection: Protection | None = None
        self._transmit: Callable[[bytes | bytearray], int] = self._deliver_unconnected
        self.deliver: Callable[[bytes | bytearray], int] = self._deliver_unconnected
        """Send RTP; raises ``OSError`` where the kernel does not take it."""
        poller.add(self._rtp.fileno(), self._read_rtp)
        poller.add(self._rtcp.fileno(), self._read_rtcp)

    @property
    def remote(self) -> Address | None:
        """Where RTP goes now."""
        return self._latch.target if self._latch else None

    @property
    def signalled(self) -> Address | None:
        """Where signalling said that RTP goes."""
        return self._latch.signalled if self._latch else None

    def heard_ago(self, now: float) -> float:
        """Seconds since the peer's RTP was last seen; infinite if never. Meaningless once it is filtered."""
        return self._latch.silent_for(now) if self._latch else float("inf")

    def anything_ago(self, now: float) -> float:
        """Seconds since the peer's RTP or RTCP was last seen; infinite if never."""
        return min(self.heard_ago(now), now - self._rtcp_heard)

    def agree(self, media: AudioParameters | VideoParameters, now: float) -> None:
        """Take what was negotiated: keys and addresses. Raises ``ValueError``."""
        self.set_keys(media.keys)
        self.set_remote(media.remote, media.remote_rtcp, media.rtcp_mux, media.peer, now)

    def set_keys(self, keys: SrtpKeys | None) -> None:
        """Speak SRTP with these keys, or plain RTP; the same keys again change nothing. Raises ``ValueError``."""
        current = self._protection
        if keys is None:
            self._protection = None
        elif current is None:
            self._protection = Protection(keys)
        elif current.keys != keys:
            self._protection = current.rekeyed(keys)
        self._send_through(self._transmit)

    def _send_through(self, transmit: Callable[[bytes | bytearray], int]) -> None:
        self._transmit = transmit
        self.deliver = transmit if self._protection is None else self._deliver_protected

    def _deliver_protected(self, packet: bytes | bytearray) -> int:
        assert self._protection is not None
        return self._transmit(self._protection.protect(packet))

    def set_remote(
        self,
        remote: Address,
        remote_rtcp: Address | None,
        mux: bool,
        peer: SignallingPeer | None = None,
        now: float = 0.0,
    ) -> None:
        """Send to this peer; the same peer again only lets a phone that moved be learnt anew.

        An unspecified address (the hold of RFC 2543) or port 0 sends nowhere. Raises ``ValueError`` for what
        is no unicast address.
        """
        nowhere = _is_nowhere(remote)
        rtcp = remote if mux else remote_rtcp or (remote[0], remote[1] + 1)
        self._remote_rtcp = None if _is_nowhere(rtcp) else rtcp
        self._mux = mux
        self._peer = peer if peer is not None else SignallingPeer((remote[0],))
        self.reopen()
        if self._latch is not None and self._latch.signalled == remote:
            self._latch.signal(self._peer, now)
        else:
            self._latch = (
                None if nowhere else Latch(remote, self._peer, self._consent, now, follows=self._follows)
            )

    def acknowledged(self, now: float) -> None:
        """The exchange of offer and answer is over: the time in which a phone is learnt begins."""
        if self._latch is not None:
            self._latch.signal(self._peer, now)

    def _deliver_unconnected(self, packet: bytes | bytearray) -> int:
        latch = self._latch
        if latch is None:
            return 0
        if not latch.proven and (self._follows or not self._consent.take(len(packet))):
            self.withheld += 1
            self._closed_to_peer = True
            return 0
        self._open()
        return self._rtp.sendto(packet, latch.target)

    def _open(self) -> None:
        if self._closed_to_peer:
            self._closed_to_peer = False
            self._on_open()

    def send_rtcp(self, packet: bytes) -> None:
        """Send RTCP to where the peer wants it."""
        if self._remote_rtcp is None:
            return
        try:
            if self._protection is not None:
                packet = self._protection.protect_rtcp(packet)
            if self._mux:
                self._transmit(packet)
            elif self._may_report(self._remote_rtcp[0]) or self._consent.take(len(packet)):
                self._rtcp.sendto(packet, self._remote_rtcp)
            else:
                self.withheld += 1
        except OSError:
            self.send_errors += 1

    def _may_report(self, host: str) -> bool:
        latch = self._latch
        return host in self._peer.hosts or (latch is not None and host == latch.target[0] and latch.proven)

    def watch(self, now: float) -> None:
        """Called about once a second: a peer that fell silent may come back from another address."""
        if self._connected and self._on_rtp is not None and self.heard_ago(now) > _SILENCE_BEFORE_REOPEN:
            self.reopen()

    def close(self) -> None:
        """Close the sockets, give the ports back and let go of who reads; harmless when called again."""
        for sock in (self._rtp, self._rtcp):
            if sock.fileno() >= 0:
                self._poller.remove(sock.fileno())
        self._pair.close()
        self._on_rtp, self._on_rtcp, self._on_open = None, _ignored, _nobody
        self._transmit = self.deliver = _undelivered

    def _read_rtp(self, now: float) -> None:
        buffer = self._buffer
        try:
            # The source counts on a connected socket as well: what was queued before is whoever's.
            size, source = self._rtp.recvfrom_into(buffer)
        except OSError:
            return  # nothing there, or an ICMP error that was reported here
        self._consent.received += size
        latch = self._latch
        if latch is None:
            return
        if size >= 2 and looks_like_rtcp(buffer[1]):
            if self._mux:
                self._take_report(source[0], size, now)
            return
        if self._protection is not None:
            plain = self._protection.unprotect(bytes(buffer[:size]))
            if plain is None:
                self.rejected += 1
                return
            size = len(plain)
            buffer[:size] = plain
        try:
            head = parse_header(buffer, size)
        except MalformedPacket:
            self.malformed += 1
            return
        before = latch.target
        if not latch.offer((source[0], source[1]), head, now, authenticated=self._protection is not None):
            self._stray(source[0])
            return
        if not self._connected or latch.target != before:
            self._connect(latch.target)
        if self._on_rtp is not None:
            self._on_rtp(head, buffer, now)

    def _stray(self, host: str) -> None:
        self.strays += 1
        self.stray_source = host

    def _read_rtcp(self, now: float) -> None:
        try:
            size, source = self._rtcp.recvfrom_into(self._buffer)
        except OSError:
            return
        self._consent.received += size
        latch = self._latch
        if latch is None:
            return
        if self._take_report(source[0], size, now) and not self._mux and source[0] == latch.target[0]:
            self._remote_rtcp = (source[0], source[1])

    def _take_report(self, host: str, size: int, now: float) -> bool:
        """RTCP that came from there; what SRTCP does not let through proves nothing."""
        latch = self._latch
        if latch is None or not latch.belongs(host):
            self._stray(host)
            return False
        if not self._take_rtcp(bytes(self._buffer[:size]), now):
            return False
        latch.reported(host)
        return True

    def _take_rtcp(self, data: bytes, now: float) -> bool:
        if self._protection is not None:
            plain = self._protection.unprotect_rtcp(data)
            if plain is None:
                self.rejected += 1
                return False
            data = plain
        try:
            self._on_rtcp(data, now)
        except MalformedPacket:
            self.malformed += 1
            return False
        self._rtcp_heard = now
        return True

    def _connect(self, remote: Address) -> None:
        # A connected socket sends without a route lookup, and the kernel drops what strangers send.
        try:
            self._rtp.connect(remote)
        except OSError:
            return
        self._connected = True
        self._open()
        self._send_through(self._rtp.send)
        if self._on_rtp is None:
            self._filter(_KEEP_RTCP if self._mux else _DROP_ALL)

    def reopen(self) -> None:
        """Hear everybody again: the peer may have moved. The latch decides whether media follows."""
        if self._connected:
            self._connected = False
            self._send_through(self._deliver_unconnected)
            # Address family AF_UNSPEC dissolves the association (connect(2)).
            _libc.connect(self._rtp.fileno(), bytes(16), 16)
        if self._on_rtp is None:
            try:
                self._rtp.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            except OSError:
                return  # there was none

    def _filter(self, program: tuple[tuple[int, int, int, int], ...]) -> None:
        code = b"".join(struct.pack("HBBI", *line) for line in program)
        holder = ctypes.create_string_buffer(code, len(code))
        attached = struct.pack("HL", len(program), ctypes.addressof(holder))
        self._rtp.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
