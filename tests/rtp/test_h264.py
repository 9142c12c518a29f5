"""H.264 payloads: RFC 6184's packet kinds, there and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from orchestrator.rtp import h264
from testing.h264 import Depacketizer

# A NAL unit neither holds a start code nor ends in zero (ITU-T H.264 section 7.4.1).
bodies = st.binary(min_size=1, max_size=4000).map(
    lambda data: data.replace(b"\x00\x00", b"\x01\x01") + b"\x80"
)


def units_of(*kinds: int) -> st.SearchStrategy[list[bytes]]:
    return st.lists(
        st.builds(lambda kind, body: bytes([0x60 | kind]) + body, st.sampled_from(kinds), bodies),
        min_size=1,
        max_size=5,
    )


@given(units_of(1, 5, 7, 8), st.booleans())
def test_annex_b_is_split_where_start_codes_are(units: list[bytes], long_codes: bool) -> None:
    code = b"\x00\x00\x00\x01" if long_codes else b"\x00\x00\x01"
    assert h264.split_annex_b(b"".join(code + unit for unit in units)) == units


def receive(payloads: list[bytes]) -> list[bytes]:
    depacketizer = Depacketizer()
    out = None
    for number, payload in enumerate(payloads):
        assert out is None
        out = depacketizer.push(65534 + number & 0xFFFF, 90, number == len(payloads) - 1, payload)
    assert out is not None and out[0] == 90
    return out[1]


@given(units_of(1, 5, 7, 8), st.integers(30, 1400))
def test_mode_1_arrives_whole(units: list[bytes], limit: int) -> None:
    payloads = h264.packetize(units, 1, limit)
    assert receive(payloads) == units
    large_sets = any(len(unit) > limit and h264.nal_type(unit) in (7, 8) for unit in units)
    assert large_sets or all(len(payload) <= limit for payload in payloads)


def test_kinds_of_packets() -> None:
    sps, pps, idr = b"\x67" + b"s" * 20, b"\x68" + b"p" * 5, b"\x65" + b"i" * 3000
    payloads = h264.packetize([sps, pps, idr], 1, 1200)
    assert [payload[0] & 0x1F for payload in payloads] == [h264.STAP_A, h264.FU_A, h264.FU_A, h264.FU_A]
    assert [payload[1] & 0xC0 for payload in payloads[1:]] == [0x80, 0, 0x40]
    assert all(payload[0] & 0x60 == 0x60 and payload[1] & 0x1F == h264.IDR for payload in payloads[1:])
    single = h264.packetize([sps, pps, b"\x65" + b"i" * 900], 0, 1200)
    assert [payload[0] & 0x1F for payload in single] == [h264.SPS, h264.PPS, h264.IDR]
    assert receive(single) == [sps, pps, b"\x65" + b"i" * 900]


def test_a_lost_fragment_costs_one_picture() -> None:
    depacketizer = Depacketizer()
    first = h264.packetize([b"\x65" + b"a" * 3000])
    second = h264.packetize([b"\x41" + b"b" * 30])
    numbered = list(enumerate(first + second))
    del numbered[1]
    got = [
        depacketizer.push(
            number, 0 if number < len(first) else 3600, payload in (first[-1], second[-1]), payload
        )
        for number, payload in numbered
    ]
    assert [picture for picture in got if picture] == [(3600, [b"\x41" + b"b" * 30])]
    assert depacketizer.damaged == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.binary(max_size=40)), max_size=30))
def test_nonsense_never_raises(packets: list[tuple[int, bool, bytes]]) -> None:
    depacketizer = Depacketizer()
    for number, (timestamp, marker, payload) in enumerate(packets):
        depacketizer.push(number, timestamp, marker, payload)
