"""RTCP XR VoIP metrics: hand-counted bursts and gaps, the bytes, and a call that carries them."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest

from orchestrator.gateways.sip_media import audio_parameters
from orchestrator.rtp import packet, rtcp, xr
from orchestrator.rtp.codecs import make_codec
from orchestrator.rtp.consent import SignallingPeer
from orchestrator.rtp.jitter import STEP, JitterBuffer
from orchestrator.sip.sdp.capabilities import AudioCapabilities, MediaCapabilities
from orchestrator.sip.sdp.session import SdpSession
from orchestrator.worker.messages import CallFigures, ConfigureCall, StartCall
from tests.media.test_hearing import worker  # noqa: F401
from tests.support.media import Phone
from tests.support.sip_fake import sdp
from tests.support.waiting import until

FLUSH = "o" * 16


def judged(pattern: str, *, first: int = 100, ticks: int = 160) -> xr.VoipMetrics:
    """Metrics of a stream: ``o`` came, ``x`` was lost, ``d`` came and was discarded."""
    arrivals = xr.Arrivals(8000)
    for number, what in enumerate(pattern + FLUSH, first):
        if what != "x":
            arrivals.received(7, number & 0xFFFF, number * ticks & 0xFFFFFFFF)
        if what == "d":
            arrivals.discard(number & 0xFFFF, 1)
    found = arrivals.metrics(0.0425, None)
    assert found is not None
    return found


def test_a_burst_between_gaps() -> None:
    # 94 packets in two gaps, one of them lost; 6 in one burst, four of these bad.
    found = judged("o" * 20 + "x" + "o" * 20 + "xooxdx" + "o" * 53)
    assert (found.loss_rate, found.discard_rate) == (256 * 4 // 100, 256 * 1 // 100)
    assert (found.burst_density, found.gap_density) == (256 * 4 // 6, 256 * 1 // 94)
    assert (found.burst_duration, found.gap_duration) == (120, 940)
    assert (found.round_trip, found.end_system_delay, found.gmin) == (42, 0, 16)
    assert (found.receiver, found.buffer_nominal, found.buffer_maximum) == (0, 0, 0)


@pytest.mark.parametrize(
    ("pattern", "burst", "gap"),
    [
        ("o" * 40, 0, 800),
        ("o" * 20 + "x" + "o" * 15 + "x" + "o" * 20, 340, 400),  # 15 good ones do not end a burst
        ("o" * 20 + "x" + "o" * 16 + "x" + "o" * 20, 0, 1160),
        ("o" * 20 + "xx" + "o" * 30 + "xxxx" + "o" * 30, 60, 533),
        ("o" * 20 + "xx", 40, 400),  # under way: no gap after it yet
    ],
)
def test_where_a_burst_ends(pattern: str, burst: int, gap: int) -> None:
    found = judged(pattern, first=65_500)
    assert (found.burst_duration, found.gap_duration) == (burst, gap)


def test_durations_are_of_the_packets_that_came() -> None:
    assert judged("o" * 20 + "xx" + "o" * 20, ticks=240).burst_duration == 60


def test_order_repetitions_and_new_sources() -> None:
    arrivals = xr.Arrivals(8000)
    assert arrivals.metrics(None, None) is None
    for number in (0, 2, 1, 1, 14, *range(3, 60), 5):
        arrivals.received(7, number, number * 160)
    found = arrivals.metrics(None, None)
    assert found == xr.VoipMetrics(7, gap_duration=44 * 20)
    arrivals.received(7, 5000, 0)  # a jump is a new beginning, not thousands of lost packets
    assert arrivals.metrics(None, None) == xr.VoipMetrics(7)
    arrivals.received(8, 1, 0)
    assert arrivals.metrics(None, None) == xr.VoipMetrics(8)


def test_what_the_jitter_buffer_throws_away_is_counted() -> None:
    buffer = JitterBuffer(make_codec("PCMU"))
    silence = make_codec("PCMU").silence()
    for number in range(20):
        buffer.push(7, number * 160, silence)
    assert (buffer.skipped, buffer.late) == (11, 0)
    for _ in range(5):
        buffer.pop()
    buffer.push(7, 0, silence)
    assert (buffer.skipped, buffer.late) == (11, 1)
    arrivals = xr.Arrivals(8000)
    for number in range(40):
        arrivals.received(7, number, number * 160)
        arrivals.discard(number, 11 if number == 13 else 0)
    found = arrivals.metrics(None, buffer)
    assert found is not None and found.discard_rate == 256 * 11 // 24
    held = 20 * buffer.waiting
    assert found.end_system_delay in range(held + 20, held + 20 + 3 * STEP * 1000 // 16_000)
    assert (found.receiver, found.buffer_nominal, found.buffer_maximum) == (0xFF, 60, 260)
    assert found.buffer_absolute_maximum == found.buffer_maximum


def test_the_bytes() -> None:
    found = xr.VoipMetrics(0x01020304, 5, 6, 7, 8, 0x090A, 0x0B0C, 0x0D0E, 0x0F10, receiver=0xE0,
                           buffer_nominal=60, buffer_maximum=260, buffer_absolute_maximum=260)  # fmt: skip
    assert xr.build(0xAABBCCDD, found).hex(" ", 4) == (
        "80cf000a aabbccdd 07000008 01020304 05060708 090a0b0c 0d0e0f10 7f7f7f10 7f7f7f7f e000003c 01040104"
    )


def test_the_reader_steps_over_reports_of_a_peer() -> None:
    block = xr.build(9, xr.VoipMetrics(7))
    assert rtcp.parse(block + rtcp.build(rtcp.ReceiverReport(9))) == [rtcp.ReceiverReport(9)]
    lying = block[:10] + b"\xff\xff" + block[12:]  # the block says it is longer than the packet
    assert rtcp.parse(lying) == []
    for size in range(1, len(block)):
        with pytest.raises(packet.MalformedPacket):
            rtcp.parse(block[:size])


@pytest.mark.process
async def test_a_call_carries_them(worker) -> None:  # noqa: F811
    pool, said, listening = worker
    phone = Phone()
    rtcp_port = phone.address("audio_rtcp")[1]
    offer = sdp(f"m=audio {phone.address('audio')[1]} RTP/AVP 0\na=rtcp:{rtcp_port}\na=rtcp-xr:voip-metrics\n",
                address="127.0.0.1")  # fmt: skip
    ports = await pool.open_call("a", video=False)
    session = SdpSession()
    answer = session.answer(offer, MediaCapabilities("127.0.0.1", AudioCapabilities(ports.audio_port)))
    assert "a=rtcp-xr:voip-metrics" in answer and session.media and session.media.audio
    pool.send(ConfigureCall("a", audio_parameters(session.media.audio, SignallingPeer(("127.0.0.1",))), None))
    pool.send(StartCall("a"))
    await until(lambda: phone.drain("audio"))
    start, silence = time.monotonic(), make_codec("PCMU").silence()
    async with listening.listen("a"):
        for number in range(80):
            await asyncio.sleep(start + 0.02 * number - time.monotonic())
            if number not in (10, 30, 31):
                sound = packet.build(packet.RtpPacket(0, number, number * 160, 5, silence))
                phone.audio.sendto(sound, ("127.0.0.1", ports.audio_port))
        await until(
            lambda: any(isinstance(m, CallFigures) and m.stats.audio.received_packets == 77 for m in said)
        )
        await pool.close_call("a")  # the last report goes out before BYE
    blocks: list[tuple[int, ...]] = []
    await until(lambda: blocks.extend(metrics_in(phone)) or (blocks and blocks[-1][0] == 5))
    phone.close()
    found = blocks[-1]
    assert found[1] == 256 * 3 // 64  # the last 16 packets are not judged yet
    assert found[3] > 0 and found[5] >= 40 and found[6] > 0  # the two in a row are a burst
    assert found[8] >= 20 and found[9:18] == (127, 127, 127, 16, 127, 127, 127, 127, 0xFF)
    assert found[19] in (20, 40, 60, 80) and found[20:] == (260, 260)  # it follows the jitter


def metrics_in(phone: Phone) -> list[tuple[int, ...]]:
    """The VoIP metrics blocks that the phone was sent, each as its 22 fields; read without our own code."""
    blocks = []
    for data in phone.drain("audio_rtcp"):
        at = 0
        while at < len(data):
            kind, words = struct.unpack_from("!BH", data, at + 1)
            if kind == 207:
                assert at > 0 and struct.unpack_from("!BBH", data, at + 8) == (7, 0, 8)
                blocks.append(struct.unpack_from("!I4B4H4B4BBB3H", data, at + 12))
            at += 4 + 4 * words
    return blocks
