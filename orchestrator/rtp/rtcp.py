"""RTCP (RFC 3550 section 6, RFC 4585, RFC 5104, RFC 2032, draft-alvestrand-rmcat-remb)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from orchestrator.rtp.packet import MalformedPacket

FIR_2032, NACK_2032, SR, RR, SDES, BYE, APP, RTPFB, PSFB, XR = (
    192,
    193,
    200,
    201,
    202,
    203,
    204,
    205,
    206,
    207,
)


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one source; ``lsr`` and ``dlsr`` in 1/65536 s, ``jitter`` in clock ticks."""

    ssrc: int
    fraction_lost: int = 0
    lost: int = 0
    highest: int = 0
    jitter: int = 0
    lsr: int = 0
    dlsr: int = 0


@dataclass(frozen=True, slots=True)
class SenderReport:
    """Sender report: the 64-bit NTP time and the RTP timestamp of the same instant."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """Receiver report."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """CNAME of one source."""

    ssrc: int
    cname: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The named sources leave."""

    ssrcs: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PictureLoss:
    """PLI (RFC 4585 section 6.3.1), or the FIR of RFC 2032 (``legacy``)."""

    ssrc: int
    media: int
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class FullIntra:
    """FIR (RFC 5104 section 4.3.1): the media source and the command's sequence number.

    ``media`` is 0 where the peer names no source, neither in the command nor in the header.
    """

    ssrc: int
    media: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Nack:
    """Generic NACK (RFC 4585 section 6.2.1): sequence numbers that are missing."""

    ssrc: int
    media: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BitrateLimit:
    """REMB, or TMMBR (RFC 5104 section 4.2.1): bits per second that the peer can take."""

    ssrc: int
    bits_per_second: int
    media: tuple[int, ...]
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class BitrateNotice:
    """TMMBN (RFC 5104 section 4.2.2): the limit in bits per second that ``owner`` has set."""

    ssrc: int
    bits_per_second: int
    owner: int


RtcpPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Goodbye
    | PictureLoss
    | FullIntra
    | Nack
    | BitrateLimit
    | BitrateNotice
)

_U32 = struct.Struct("!I")
_BLOCK = struct.Struct("!IIIIII")
_SENDER = struct.Struct("!IQIII")


def parse(data: bytes | memoryview) -> list[RtcpPacket]:
    """The packets of a compound that we know; unknown ones are stepped over.

    Raises ``MalformedPacket`` where a length or count leads outside the datagram.
    """
    data = bytes(data)
    out: list[RtcpPacket] = []
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise MalformedPacket("RTCP packet shorter than its header")
        first, kind, words = struct.unpack_from("!BBH", data, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            raise MalformedPacket("RTCP packet with a wrong version or length")
        body = data[at + 4 : end]
        if first & 0x20:
            if not body or not 0 < body[-1] <= len(body):
                raise MalformedPacket("RTCP padding longer than the packet")
            body = body[: -body[-1]]
        try:
            _parse_one(kind, first & 0x1F, body, out)
        except (struct.error, IndexError) as error:
            raise MalformedPacket(f"RTCP packet type {kind} is too short") from error
        at = end
    return out


def _parse_one(kind: int, count: int, body: bytes, out: list[RtcpPacket]) -> None:
    if kind == SR:
        ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(body)
        out.append(SenderReport(ssrc, ntp, timestamp, packets, octets, _blocks(body, 24, count)))
    elif kind == RR:
        out.append(ReceiverReport(_U32.unpack_from(body)[0], _blocks(body, 4, count)))
    elif kind == SDES:
        _parse_sdes(body, count, out)
    elif kind == BYE:
        ssrcs = struct.unpack_from(f"!{count}I", body)
        reason = body[4 * count + 1 : 4 * count + 1 + body[4 * count]] if len(body) > 4 * count else b""
        out.append(Goodbye(ssrcs, reason.decode("utf-8", "replace")))
    elif kind == FIR_2032:
        ssrc = _U32.unpack_from(body)[0]
        out.append(PictureLoss(ssrc, ssrc, legacy=True))
    elif kind == RTPFB and count in (1, 3, 4):
        ssrc, media = struct.unpack_from("!II", body)
        if count == 1:
            out.append(Nack(ssrc, media, _missing(body)))
        else:
            for at in range(8, len(body) - 7, 8):
                target, value = struct.unpack_from("!II", body, at)
                rate = (value >> 9 & 0x1FFFF) << (value >> 26)
                limit = BitrateLimit(ssrc, rate, (target,), temporary=True)
                out.append(limit if count == 3 else BitrateNotice(ssrc, rate, target))
    elif kind == PSFB:
        ssrc, media = struct.unpack_from("!II", body)
        if count == 1:
            out.append(PictureLoss(ssrc, media))
        elif count == 4:
            for at in range(8, len(body) - 7, 8):
                target, sequence = struct.unpack_from("!IB", body, at)
                out.append(FullIntra(ssrc, target or media, sequence))
            if len(body) < 16:  # no command at all: phones exist that name the source in the header only
                out.append(PictureLoss(ssrc, media))
        elif count == 15 and body[8:12] == b"REMB":
            targets, value = body[12], int.from_bytes(body[13:16], "big")
            media_ssrcs = struct.unpack_from(f"!{targets}I", body, 16)
            out.append(BitrateLimit(ssrc, (value & 0x3FFFF) << (value >> 18), media_ssrcs))


def _blocks(body: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    blocks = []
    for index in range(count):
        ssrc, loss, highest, jitter, lsr, dlsr = _BLOCK.unpack_from(body, at + 24 * index)
        lost = loss & 0xFFFFFF
        blocks.append(
            ReportBlock(
                ssrc, loss >> 24, lost - (1 << 24) if lost >> 23 else lost, highest, jitter, lsr, dlsr
            )
        )
    return tuple(blocks)


def _parse_sdes(body: bytes, count: int, out: list[RtcpPacket]) -> None:
    at = 0
    for _ in range(count):
        ssrc = _U32.unpack_from(body, at)[0]
        at += 4
        while body[at]:
            item, size = body[at], body[at + 1]
            if at + 2 + size > len(body):
                raise IndexError(at)
            if item == 1:
                out.append(SourceDescription(ssrc, body[at + 2 : at + 2 + size].decode("utf-8", "replace")))
            at += 2 + size
            if at >= len(body):
                return
        at = (at // 4 + 1) * 4


def _missing(body: bytes) -> tuple[int, ...]:
    missing: list[int] = []
    for at in range(8, len(body) - 3, 4):
        first, mask = struct.unpack_from("!HH", body, at)
        missing.append(first)
        missing.extend((first + 1 + bit) & 0xFFFF for bit in range(16) if mask >> bit & 1)
    return tuple(missing)


def build(*packets: RtcpPacket) -> bytes:
    """A compound packet on the wire (RFC 3550 section 6.1 wants SR or RR first, then SDES)."""
    return b"".join(_build_one(packet) for packet in packets)


def _framed(kind: int, count: int, body: bytes) -> bytes:
    body += b"\x00" * (-len(body) % 4)
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def _build_one(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport(ssrc, ntp, timestamp, packets, octets, blocks):
            head = _SENDER.pack(ssrc, ntp, timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
            return _framed(SR, len(blocks), head + _build_blocks(blocks))
        case ReceiverReport(ssrc, blocks):
            return _framed(RR, len(blocks), _U32.pack(ssrc) + _build_blocks(blocks))
        case SourceDescription(ssrc, cname):
            name = cname.encode()[:255]
            return _framed(SDES, 1, _U32.pack(ssrc) + bytes((1, len(name))) + name + b"\x00")
        case Goodbye(ssrcs, reason):
            text = reason.encode()[:255]
            tail = bytes((len(text),)) + text if text else b""
            return _framed(BYE, len(ssrcs), struct.pack(f"!{len(ssrcs)}I", *ssrcs) + tail)
        case PictureLoss(ssrc, _, True):
            return _framed(FIR_2032, 0, _U32.pack(ssrc))
        case PictureLoss(ssrc, media, _):
            return _framed(PSFB, 1, struct.pack("!II", ssrc, media))
        case FullIntra(ssrc, media, sequence):
            return _framed(PSFB, 4, struct.pack("!IIIB3x", ssrc, 0, media, sequence))
        case Nack(ssrc, media, missing):
            pairs = b"".join(struct.pack("!HH", lost, 0) for lost in missing)
            return _framed(RTPFB, 1, struct.pack("!II", ssrc, media) + pairs)
        case BitrateNotice(ssrc, rate, owner):
            entry = struct.pack("!II", owner, _floating(rate, 17) << 9)
            return _framed(RTPFB, 4, struct.pack("!II", ssrc, 0) + entry)
        case BitrateLimit(ssrc, rate, media, temporary):
            value = _floating(rate, 17 if temporary else 18)
            if temporary:
                entries = b"".join(struct.pack("!II", target, value << 9) for target in media)
                return _framed(RTPFB, 3, struct.pack("!II", ssrc, 0) + entries)
            remb = b"REMB" + bytes((len(media),)) + value.to_bytes(3, "big")
            return _framed(
                PSFB, 15, struct.pack("!II", ssrc, 0) + remb + struct.pack(f"!{len(media)}I", *media)
            )


def _floating(rate: int, bits: int) -> int:
    """Exponent and mantissa of ``bits`` bits, as REMB and TMMBR write rates."""
    exponent = max(0, rate.bit_length() - bits)
    return exponent << bits | rate >> exponent


def _build_blocks(blocks: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            (block.fraction_lost & 0xFF) << 24 | block.lost & 0xFFFFFF,
            block.highest & 0xFFFFFFFF,
            block.jitter & 0xFFFFFFFF,
            block.lsr,
            block.dlsr,
        )
        for block in blocks
    )
