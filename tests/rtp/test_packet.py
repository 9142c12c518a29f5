"""RTP and RTCP on the wire: what we build we read, and nonsense is told apart."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from orchestrator.rtp import rtcp
from orchestrator.rtp.packet import (
    MalformedPacket,
    RtpPacket,
    build,
    looks_like_rtcp,
    parse,
    parse_header,
    sequence_delta,
)

u8, u16, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))

rtp_packets = st.builds(RtpPacket, st.integers(0, 127), u16, u32, u32, st.binary(max_size=200), st.booleans())
blocks = st.lists(
    st.builds(rtcp.ReportBlock, u32, u8, st.integers(-(2**23), 2**23 - 1), u32, u32, u32, u32), max_size=3
).map(tuple)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60)
rtcp_packets = st.one_of(
    st.builds(rtcp.SenderReport, u32, st.integers(0, 2**64 - 1), u32, u32, u32, blocks),
    st.builds(rtcp.ReceiverReport, u32, blocks),
    st.builds(rtcp.SourceDescription, u32, names),
    st.builds(rtcp.Goodbye, st.lists(u32, max_size=3).map(tuple), names),
    st.builds(rtcp.PictureLoss, u32, u32),
    u32.map(lambda ssrc: rtcp.PictureLoss(ssrc, ssrc, legacy=True)),
    st.builds(rtcp.FullIntra, u32, u32, u8),
    st.builds(rtcp.Nack, u32, u32, st.lists(u16, max_size=5).map(tuple)),
    st.builds(
        rtcp.BitrateLimit, u32, st.integers(0, 2**17 - 1), st.lists(u32, min_size=1, max_size=2).map(tuple)
    ),
)


@given(rtp_packets)
def test_rtp_survives_the_wire(packet: RtpPacket) -> None:
    assert parse(build(packet)) == packet


@given(rtp_packets, st.lists(u32, max_size=15), st.integers(0, 4), st.integers(1, 9))
def test_csrcs_extension_and_padding_are_stepped_over(
    packet: RtpPacket, sources: list[int], words: int, padding: int
) -> None:
    plain = build(packet)
    data = bytes([0x80 | 0x30 | len(sources)]) + plain[1:12]
    data += b"".join(struct.pack("!I", source) for source in sources)
    data += struct.pack("!HH", 0xBEDE, words) + bytes(4 * words)
    data += packet.payload + bytes(padding - 1) + bytes([padding])
    assert parse(data) == packet


@given(st.binary(max_size=80))
def test_nonsense_is_malformed_or_a_packet(data: bytes) -> None:
    try:
        head = parse_header(data)
    except MalformedPacket:
        return
    assert 12 <= head.start <= head.end <= len(data)


@given(st.lists(rtcp_packets, max_size=4))
def test_rtcp_compounds_survive_the_wire(packets: list[rtcp.RtcpPacket]) -> None:
    assert rtcp.parse(rtcp.build(*packets)) == packets


@given(st.lists(rtcp_packets, max_size=3), st.binary(max_size=40), st.integers(0, 300), u8)
def test_damaged_rtcp_is_malformed_at_worst(
    packets: list[rtcp.RtcpPacket], tail: bytes, at: int, value: int
) -> None:
    data = bytearray(rtcp.build(*packets) + tail)
    if data:
        data[at % len(data)] = value
    with contextlib.suppress(MalformedPacket):
        rtcp.parse(data)


def test_unknown_rtcp_packets_are_stepped_over() -> None:
    unknown = struct.pack("!BBH", 0x80, 207, 1) + b"xr!!"
    loss = rtcp.PictureLoss(1, 2)
    assert rtcp.parse(unknown + rtcp.build(loss)) == [loss]


def test_published_bytes() -> None:
    # A PLI as RFC 4585 section 6.3.1 lays it out, and FIR of RFC 2032 section 5.2.1.
    assert rtcp.parse(bytes.fromhex("81ce0002 00000001 00000002")) == [rtcp.PictureLoss(1, 2)]
    assert rtcp.parse(bytes.fromhex("80c00001 0000abcd")) == [rtcp.PictureLoss(0xABCD, 0xABCD, legacy=True)]
    # FIR of RFC 5104 section 4.3.1.1: sequence number 5 for source 2.
    fir = bytes.fromhex("84ce0004 00000001 00000000 00000002 05000000")
    assert rtcp.parse(fir) == [rtcp.FullIntra(1, 2, 5)]
    # As phones write it: no source in the command but one in the header, none at all, no command.
    assert rtcp.parse(fir[:8] + b"\0\0\0\x02\0\0\0\0" + fir[16:]) == [rtcp.FullIntra(1, 2, 5)]
    assert rtcp.parse(fir[:12] + b"\0\0\0\0" + fir[16:]) == [rtcp.FullIntra(1, 0, 5)]
    assert rtcp.parse(bytes.fromhex("84ce0002 00000001 00000002")) == [rtcp.PictureLoss(1, 2)]
    # NACK of RFC 4585 section 6.2.1: packet 100 and, by the mask 0x8001, 101 and 116.
    nack = bytes.fromhex("81cd0003 00000001 00000002 00648001")
    assert rtcp.parse(nack) == [rtcp.Nack(1, 2, (100, 101, 116))]
    # REMB of 250 000 bit/s = 125000 * 2^1 for one source.
    remb = bytes.fromhex("8fce0005 00000001 00000000 52454d42 0105e848 00000007")
    assert rtcp.parse(remb) == [rtcp.BitrateLimit(1, 250_000, (7,))]
    # TMMBR of RFC 5104 section 4.2.1.1: exponent 4, mantissa 20000.
    tmmbr = bytes.fromhex("83cd0004 00000001 00000000 00000007") + struct.pack("!I", 4 << 26 | 20000 << 9)
    assert rtcp.parse(tmmbr) == [rtcp.BitrateLimit(1, 320_000, (7,), temporary=True)]


def test_rtcp_is_told_from_rtp_by_its_second_byte() -> None:
    assert looks_like_rtcp(200) and looks_like_rtcp(206) and looks_like_rtcp(192)
    assert not looks_like_rtcp(96) and not looks_like_rtcp(0x80 | 0) and not looks_like_rtcp(0x80 | 111)


@pytest.mark.parametrize(("newer", "older", "ahead"), [(5, 3, 2), (1, 65535, 2), (65535, 1, -2), (7, 7, 0)])
def test_sequence_numbers_wrap(newer: int, older: int, ahead: int) -> None:
    assert sequence_delta(newer, older) == ahead
