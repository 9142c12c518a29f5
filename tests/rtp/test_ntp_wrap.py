"""RTCP in 2036, when NTP timestamps begin at 0 again (RFC 3550 section 4); the clock is made by hand."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from orchestrator.media.report import StreamReports
from orchestrator.rtp import rtcp
from orchestrator.rtp.rtcp import ReceiverReport, ReportBlock, SenderReport
from orchestrator.rtp.stats import NTP_EPOCH, Reception, middle_ntp, round_trip, to_ntp
from testing.caller import recording
from testing.caller.recording import Packet, Stream, unwrapped

WRAP = 2**32 - NTP_EPOCH
"""Unix time of 2036-02-07T06:28:16Z."""
MOMENTS = (WRAP - 1.0, WRAP - 0.25, WRAP, WRAP + 0.25, WRAP + 3600.0, WRAP + 10 * 365 * 86_400.0)


def sender_report(unix: float) -> tuple[StreamReports, SenderReport]:
    reports = StreamReports("us")
    reports.packets, reports.octets = 1, 160
    report = rtcp.parse(reports.build(unix, 0, None))[0]
    assert isinstance(report, SenderReport)
    return reports, report


@pytest.mark.parametrize("unix", MOMENTS)
def test_a_sender_report_goes_out_before_and_after_the_wrap(unix: float) -> None:
    _, report = sender_report(unix)
    assert report.ntp == int((unix - WRAP) * 2**32) % 2**64


def test_timestamps_go_on_by_what_has_passed() -> None:
    stamps = [to_ntp(unix) for unix in MOMENTS]
    assert stamps[2] == 0
    for (one, before), (other, after) in pairwise(zip(MOMENTS, stamps, strict=True)):
        assert (after - before) % 2**64 == int((other - one) * 2**32)


@pytest.mark.parametrize("unix", MOMENTS)
def test_a_round_trip_is_the_same_across_the_wrap(unix: float) -> None:
    ours, report = sender_report(unix - 0.2)
    lsr = middle_ntp(report.ntp)
    block = ReportBlock(ours.ssrc, 0, 0, 1, 0, lsr, int(0.1 * 65536))
    ours.take(rtcp.build(ReceiverReport(7, (block,))), unix)
    assert ours.peer.round_trip == pytest.approx(0.1, abs=1e-4)
    assert round_trip(to_ntp(unix), lsr, 0) == pytest.approx(0.2, abs=1e-4)


@pytest.mark.parametrize("unix", MOMENTS)
def test_a_peers_sender_report_is_named_in_ours(unix: float) -> None:
    reception = Reception(8000)
    reception.received(9, 1, 0, 10.0)
    _, report = sender_report(unix)
    reception.sender_report(report.ntp, 10.0)
    block = reception.report(11.5)
    assert block is not None
    assert block.lsr == middle_ntp(report.ntp)
    assert block.dlsr == (98304 if block.lsr else 0)  # 0 stands for none: one stamp in 2^32


def test_a_phone_lines_up_voice_and_picture_across_the_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    voice, picture = Stream(8000), Stream(90_000)
    for stream, unix in ((voice, WRAP - 0.5), (picture, WRAP + 0.5)):
        stream.packets.append(Packet(1, 0, False, 0, b"", 0.0))
        monkeypatch.setattr(recording.time, "time", lambda unix=unix: unix + 0.02)
        stream.on_rtcp(struct.pack("!BBHIQIII", 0x80, 200, 6, 1, to_ntp(unix), 0, 1, 160), 0.0)
    assert picture.sender_time(0) - voice.sender_time(0) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("unix", (1_700_000_000.0, *MOMENTS))
def test_an_era_is_found_by_the_wall_clock(unix: float) -> None:
    for drift in (-86_400.0, 0.0, 86_400.0):
        assert unwrapped(to_ntp(unix), unix + drift) == int((unix + NTP_EPOCH) * 2**32)


def test_extended_sequence_numbers_wrap_at_32_bits() -> None:
    reception = Reception(8000)
    reception.received(9, 0xFFFF, 0, 0.0)
    reception._cycles = 0xFFFF << 16
    reception.received(9, 0, 160, 0.02)
    block = reception.report(1.0)
    assert block is not None and block.highest == 0
    assert rtcp.parse(rtcp.build(ReceiverReport(7, (block,))))
