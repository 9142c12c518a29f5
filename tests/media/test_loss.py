"""Retransmission and bitrate of a running session."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.media.clock import SLOT_SECONDS, SlotWheel
from orchestrator.media.parameters import AudioParameters, Encoding, VideoParameters
from orchestrator.media.report import StreamReports
from orchestrator.media.sender import RtpSender
from orchestrator.media.session import MediaSession
from orchestrator.media.sources import StillBody
from orchestrator.media.video.encoder import H264Encoder, parameter_sets
from orchestrator.media.video.live import EncoderPool, LiveEncoder, LivePicture
from orchestrator.media.video.retransmitter import Retransmitter
from orchestrator.rtp import h264, packet, rtcp
from orchestrator.worker.host import MediaHost
from testing.h264 import Depacketizer
from testing.loop_face import LoopFace
from tests.support.media import Phone, card_body, decode
from tests.support.waiting import until
from visavis.playout.playout import Picture

pytest_plugins = ["tests.support.media_fixtures"]

ALL = frozenset({"nack", "nack pli", "ccm tmmbr", "goog-remb"})


def video_session(
    host: MediaHost, phone: Phone, feedback: frozenset[str], loop: int = 1, rtx: int | None = None
) -> MediaSession:
    session = host.session(face=LoopFace(card_body(loop)))
    video = VideoParameters(96, phone.address("video"), 192, 128, feedback=feedback, rtx_payload_type=rtx)
    session.update(
        AudioParameters("PCMU", 0, phone.address("audio")),
        replace(video, remote_rtcp=phone.address("video_rtcp")),
    )
    session.start()
    return session


def tell(phone: Phone, session: MediaSession, *packets: rtcp.RtcpPacket) -> None:
    data = rtcp.build(rtcp.ReceiverReport(7), *packets)
    assert session.video_port
    phone.video_rtcp.sendto(data, ("127.0.0.1", session.video_port + 1))


async def test_cached_and_live_packets_are_sent_again(host: MediaHost, phone: Phone) -> None:
    session, other = video_session(host, phone, ALL), video_session(host, phone, ALL)
    assert session.video and other.video
    ours = session.video.reports.ssrc
    live = session.video
    packets: list[packet.RtpPacket] = []

    def mine() -> list[packet.RtpPacket]:
        packets.extend(p for p in phone.packets("video") if p.ssrc == ours)
        return packets

    await until(lambda: len(mine()) >= 2)
    await until(lambda: live.cached and mine() and live.counters.cached > 10)
    before = {p.sequence: p for p in packets}
    missing = [p.sequence for p in packets[-4:]]
    packets.clear()
    tell(phone, session, rtcp.Nack(7, ours, tuple(missing)), rtcp.Nack(7, 12345, (1, 2, 3)))
    again: dict[int, packet.RtpPacket] = {}

    def repeated() -> bool:
        again.update({p.sequence: p for p in mine() if p.sequence in missing})
        return len(again) == 4

    await until(repeated)
    assert all(again[sequence] == before[sequence] for sequence in missing)
    stats = session.stats(time.monotonic()).video
    assert stats is not None
    assert (stats.nacked, stats.retransmitted) == (4, 4)
    session.stop()
    other.stop()


async def test_an_rtx_stream_repeats_under_its_own_name(host: MediaHost, phone: Phone) -> None:
    session = video_session(host, phone, ALL, rtx=99)
    assert session.video
    first: list[packet.RtpPacket] = []
    await until(lambda: first.extend(phone.packets("video")) or len(first) >= 10)
    lost = first[-3:]
    tell(phone, session, rtcp.Nack(7, session.video.reports.ssrc, tuple(p.sequence for p in lost)))
    again: list[packet.RtpPacket] = []

    def repeated() -> bool:
        again.extend(p for p in phone.packets("video") if p.payload_type == 99)
        return len(again) == 3

    await until(repeated)
    assert [p.payload for p in again] == [p.sequence.to_bytes(2, "big") + p.payload for p in lost]
    assert [p.timestamp for p in again] == [p.timestamp for p in lost]
    (ssrc,) = {p.ssrc for p in again}
    assert ssrc != session.video.reports.ssrc
    phone.drain("video_rtcp")
    reported: set[int] = set()

    def both_report() -> bool:
        for data in phone.drain("video_rtcp"):
            reported.update(p.ssrc for p in rtcp.parse(data) if isinstance(p, rtcp.SenderReport))
        return reported >= {ssrc, session.video.reports.ssrc}

    await until(both_report)
    session.stop()


class Repetitions:
    """A repeater on a wheel that is turned by hand; ``sent`` has slot and sequence number of each repetition."""

    def __init__(self, count: int, size: int) -> None:
        self.wheel = SlotWheel(0.0)
        self.sent: list[tuple[int, int]] = []
        clock: Any = SimpleNamespace(wheel=self.wheel)
        socket: Any = SimpleNamespace(deliver=self._deliver, send_errors=0)
        sender = RtpSender(socket, StreamReports("phone@example"))
        self.repeater = Retransmitter(clock, socket, sender)
        self.repeater.agree(VideoParameters(96, ("127.0.0.1", 9), 640, 480, feedback=ALL))
        for sequence in range(count):
            self.repeater.history.keep(sequence, bytearray(packet.HEADER_SIZE + size), True, sequence)

    def _deliver(self, data: bytes) -> int:
        self.sent.append((self.wheel.slot, int.from_bytes(data[2:4], "big")))
        return len(data)

    def turn(self, slots: int) -> None:
        for slot in range(self.wheel.slot + 1, self.wheel.slot + 1 + slots):
            self.wheel.advance(slot, lambda slot=slot: slot * SLOT_SECONDS)  # type: ignore[misc]


def test_large_repetitions_leave_two_a_slot() -> None:
    house = Repetitions(20, h264.MAX_PAYLOAD)
    house.turn(10)
    house.repeater.ask(tuple(range(8)), 0.05)
    house.repeater.ask(tuple(range(8, 20)), 0.05)
    house.turn(20)
    assert house.sent == [(9 + number // 2, number) for number in range(20)]


def test_small_repetitions_leave_together() -> None:
    house = Repetitions(20, 200)
    house.turn(10)
    house.repeater.ask(tuple(range(20)), 0.05)
    house.turn(5)
    assert [slot for slot, _ in house.sent] == [9] * 12 + [10] * 8


def test_the_next_request_is_looked_for_in_every_slot_for_a_while() -> None:
    house = Repetitions(20, 200)
    house.turn(10)
    assert house.wheel.next_busy() == 13
    house.repeater.ask((3,), 0.05)
    for _ in range(900):
        assert house.wheel.next_busy() == house.wheel.slot + 1
        house.turn(1)
    house.turn(200)
    assert house.wheel.next_busy() == house.wheel.slot + 4
    house.repeater.ask((4,), house.wheel.slot * SLOT_SECONDS)
    assert [number for _, number in house.sent] == [3, 4]


async def test_nothing_is_repeated_where_it_was_not_agreed(host: MediaHost, phone: Phone) -> None:
    session = video_session(host, phone, frozenset({"nack pli"}))
    assert session.video
    video, ours = session.video, session.video.reports.ssrc
    await until(lambda: video.reports.packets > 5)
    sequence = phone.packets("video")[-1].sequence
    tell(phone, session, rtcp.Nack(7, ours, (sequence,)), rtcp.BitrateLimit(7, 100_000, (ours,)))
    tell(phone, session, rtcp.PictureLoss(7, ours))
    await until(lambda: video.keyframes.count == 1)
    assert video.repeater.history.repeated == 0
    assert video.rate.target == 1_500_000
    session.stop()


async def test_loss_and_limits_lower_the_bitrate(host: MediaHost, phone: Phone) -> None:
    session = video_session(host, phone, ALL)
    assert session.video
    video, ours = session.video, session.video.reports.ssrc
    await until(lambda: video.reports.packets > 5)
    tell(phone, session, rtcp.BitrateLimit(7, 600_000, (ours,)))
    await until(lambda: 599_000 < session.stats(time.monotonic()).video_bitrate <= 600_000)
    assert video._encoder is not None
    assert video._encoder._wanted.bitrate == 512_000
    tell(phone, session, rtcp.BitrateLimit(7, 300_000, (ours,), temporary=True))
    notices: list[rtcp.BitrateNotice] = []

    def noticed() -> list[rtcp.BitrateNotice]:
        for data in phone.drain("video_rtcp"):
            notices.extend(p for p in rtcp.parse(data) if isinstance(p, rtcp.BitrateNotice))
        return notices

    await until(noticed)
    assert notices[0].owner == 7
    assert 299_000 < notices[0].bits_per_second <= 300_000
    block = rtcp.ReportBlock(ours, fraction_lost=50)
    for _ in range(2):
        tell(phone, session, rtcp.ReceiverReport(7, (block,)))
    await until(lambda: video.rate.lowered == 1)
    session.stop()


SIZE = (320, 240)


@pytest.mark.parametrize("bitrate", [64_000, 256_000, 8_000_000])
def test_the_bitrate_is_in_no_parameter_set(bitrate: int) -> None:
    high = Encoding(*SIZE, Fraction(25), 1_500_000, 13)
    sets = []
    for encoding in (high, replace(high, bitrate=bitrate)):
        encoder = H264Encoder(encoding)
        encoder.write(np.full((SIZE[1] * 3 // 2, SIZE[0]), 90, np.uint8))
        sets.append(parameter_sets(encoder.encode(idr=True)))
    assert sets[0] == sets[1]


def test_a_live_encoder_gets_by_with_less_and_more() -> None:
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 255, (8, SIZE[1] * 3 // 2, SIZE[0]), np.uint8)
    body = StillBody("noise", frames)
    pool = EncoderPool(1)
    encoder = LiveEncoder(pool, Encoding(*SIZE, Fraction(25), 1_500_000, 30), 1)
    units: list[list[bytes]] = []
    at = 0

    def code(count: int, idr: bool) -> tuple[float, list[bool]]:
        nonlocal at
        octets, keys = 0, []
        for number in range(count):
            job = LivePicture(Picture(at % 8), body, idr and number == 0, False, at * 3600)
            at += 1
            encoder.submit(job)
            deadline = time.monotonic() + 20
            while not job.done:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            depacketizer = Depacketizer()
            last = len(job.packets) - 1
            whole = [
                depacketizer.push(n, job.timestamp, n == last, bytes(p[12:]))
                for n, p in enumerate(job.packets)
            ][-1]
            assert whole is not None
            units.append(whole[1])
            keys.append(h264.is_idr(whole[1]))
            octets += sum(map(len, job.packets)) if number >= count // 2 else 0
        return octets * 8 * 25 / (count - count // 2), keys

    full, _ = code(50, True)
    encoder.limit(384_000)
    less, keys = code(50, False)
    assert keys == [True] + [False] * 49
    encoder.limit(1_500_000)
    still, keys = code(10, False)
    assert not any(keys)
    more, keys = code(50, True)
    assert keys == [True] + [False] * 49
    assert less < 0.4 * full
    assert less < 1.25 * 384_000
    assert still < 0.6 * full
    assert more == pytest.approx(full, rel=0.1)
    assert len(decode(units)) == len(units)
    encoder.close()
    pool.close()
