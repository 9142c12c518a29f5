"""The check of the addresses that media would be sent to (RFC 8445 section 19.4.1: the voice hammer)."""

from __future__ import annotations

import errno
import ipaddress
import socket

from orchestrator.sip.sdp.capabilities import NegotiatedMedia, NotAcceptable

_ADVICE = "c= and a=rtcp must name the address that the phone itself is reached at"


def check_targets(media: NegotiatedMedia, source: str) -> None:
    """Raises NotAcceptable where something agreed would be sent to an address that is not one machine's own.

    `source` is the IP address that the signalling comes from: only who is on the loopback or a link-local network
    may name itself there. Unspecified addresses (the hold of RFC 2543) are let through: nothing is sent there.
    """
    for stream in (media.audio, media.video):
        if stream is None:
            continue
        for host, _ in (stream.remote, stream.remote_rtcp or stream.remote):
            if fault := refusal(host, source):
                raise NotAcceptable(f"no media is sent to {host[:45]}, {fault}: {_ADVICE}")


def refusal(host: str, source: str) -> str | None:
    """What is wrong with an address as a target of media; None where nothing is."""
    try:
        address = _parsed(host)
    except ValueError:
        return "which is no IP address"
    if address.is_unspecified:
        return None
    if address.is_multicast:
        return "a multicast address"
    if str(address) == "255.255.255.255" or _is_broadcast(str(address)):
        return "a broadcast address"
    if address.is_loopback and not _is_loopback(source):
        return "a loopback address"
    if address.is_link_local and host != source:
        return "a link-local address"
    if address.version == 4 and (address in _CURRENT or address in _RESERVED):
        return "a reserved address"
    return None


_CURRENT, _RESERVED = ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("240.0.0.0/4")


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_loopback(host: str) -> bool:
    try:
        return _parsed(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_broadcast(host: str) -> bool:
    """Whether it is that of a network of ours: the kernel connects no socket there that did not ask for it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError as error:
            return error.errno == errno.EACCES
        return False
