"""Cached idle and live pictures: joins that decode without loss, and what a picture looks like."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import Executor, Future
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from orchestrator.media.parameters import Encoding, VideoParameters, bitrate_tier
from orchestrator.media.sources import StillBody
from orchestrator.media.video.director import Live, VideoDirector, is_plain
from orchestrator.media.video.encoder import H264Encoder, parameter_sets
from orchestrator.media.video.idle_loop import (
    Cached,
    IdleCache,
    IdleKey,
    IdleLoop,
    encode_phases,
    entry_points,
    idle_key,
    packetize_phases,
)
from orchestrator.media.video.idle_store import IdleStore
from orchestrator.media.video.live import EncoderPool, LiveEncoder, LivePicture, be_nice
from orchestrator.media.video.pacer import PACKETS_PER_SLOT, PacketPacer
from orchestrator.rtp import h264
from orchestrator.rtp.packet import HEADER_SIZE
from testing.h264 import Depacketizer, annex_b
from tests.support.media import card, card_body, decode, read_card
from visavis.frames import Frame, Rect, crop_i420, paste_i420
from visavis.playout.compositor import Compositor
from visavis.playout.loop import IdleVariation
from visavis.playout.playout import Picture, Playout

ENCODING = Encoding(192, 128, Fraction(10), 500_000, 12)
RECT = Rect(32, 64, 64, 32)


class Now(Executor):
    """Runs everything at once, in the caller's thread."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Held(Executor):
    """Runs nothing until told."""

    def __init__(self) -> None:
        self.jobs: list = []

    def submit(self, fn, /, *args, **kwargs):
        self.jobs.append((fn, args))
        return Future()

    def step(self) -> None:
        fn, args = self.jobs.pop(0)
        fn(*args)


def key(body: StillBody, periodic: bool = False, encoding: Encoding = ENCODING, mode: int = 1) -> IdleKey:
    return IdleKey(body.body_id, encoding, mode, periodic)


def coded(body: StillBody, **options) -> IdleLoop:
    name = key(body, **options)
    return packetize_phases(encode_phases(body, name), name.mode, len(body.frames))


def units_of(packets) -> list[bytes]:
    depacketizer = Depacketizer()
    for number, packet in enumerate(packets):
        out = depacketizer.push(number, 0, number == len(packets) - 1, bytes(packet[HEADER_SIZE:]))
    assert out is not None
    return out[1]


def mouth(index: int, turn: int = 1) -> Picture:
    patch = np.full((192, 192), 128, np.uint8)
    patch[:128] = 225
    return Picture(index, Frame(turn, 1, 0, index, "mouth", RECT, crop_i420(patch, 192, 128, RECT)))


def play(
    pictures: list[Picture], body: StillBody, loop: IdleLoop | None, requests: frozenset[int] = frozenset()
):
    """Units and kinds of a stream as a call sends it."""
    director, compositor, encoder = VideoDirector(), Compositor(), H264Encoder(ENCODING)
    stream, kinds = [], []
    for number, picture in enumerate(pictures):
        action = director.decide(picture, loop, keyframe=number in requests)
        if isinstance(action, Live):
            if action.fresh:
                compositor.forget()
            encoder.write(compositor.compose(picture, body))
            stream.append(encoder.encode(action.idr))
            kinds.append("IDR" if action.idr else "live")
        else:
            stream.append(units_of(action.packets))
            kinds.append("cached IDR" if action.idr else "cached")
    return stream, kinds


@pytest.fixture(scope="module")
def body() -> StillBody:
    return card_body(50)


@pytest.fixture(scope="module")
def loop(body: StillBody) -> IdleLoop:
    return coded(body)


class TestIdleLoop:
    def test_each_phase_has_one_key_frame_a_second_apart(self, loop: IdleLoop) -> None:
        assert len(loop.units) == 5 and loop.length == 50
        assert [sum(unit.idr for unit in phase) for phase in loop.units] == [1] * 5
        assert sorted(loop.entries) == [0, 10, 20, 30, 40]

    def test_peers_that_cannot_ask_get_a_key_frame_each_second(self, body: StillBody) -> None:
        loop = coded(body, periodic=True)
        assert [index for index, unit in enumerate(loop.units[0]) if unit.idr] == [0, 10, 20, 30, 40]
        assert loop.entries == {index: (0, index) for index in (0, 10, 20, 30, 40)}

    def test_long_loops_do_not_need_ever_more_phases(self) -> None:
        loop = coded(card_body(83))
        assert len(loop.units) == 6
        gaps = [b - a for a, b in itertools.pairwise([*sorted(loop.entries), 83])]
        assert max(gaps) <= 10

    def test_where_jumps_lead_there_is_a_key_frame(self) -> None:
        assert entry_points(50, 10, (0, 18, 31)) == [0, 9, 18, 24, 31, 40]
        assert entry_points(50, 25, (7, 32)) == [7, 32]
        assert entry_points(125, 25, (0, 45, 77)) == [0, 22, 45, 61, 77, 101]
        assert entry_points(1, 25, ()) == [0]

    def test_memory_is_bounded_by_what_was_wanted_last(self) -> None:
        bodies = [card_body(8, body_id=f"body {number}") for number in range(3)]
        cache = IdleCache(Now(), None, most_bytes=1)
        for body in bodies:
            cache.get(body, key(body))
        assert [cache.get(body, key(body)) is not None for body in bodies[2:]] == [True]
        assert cache.get(bodies[0], key(bodies[0])) is None

    def test_a_loop_that_cannot_be_coded_is_not_tried_for_ever(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        body = StillBody("broken", np.zeros((2, 1, 7), np.uint8))
        cache = IdleCache(Now())
        assert [cache.get(body, key(body)) for _ in range(3)] == [None] * 3
        assert len([r for r in caplog.records if r.message == "idle_loop_not_coded"]) == 1

    def test_files_are_bounded_too(self, tmp_path: Path) -> None:
        store = IdleStore(tmp_path, most_bytes=1500)
        for number in range(4):
            store.save(str(number), [[[bytes(500)]]])
        assert len(list(tmp_path.iterdir())) == 2 and store.load("3") == [[[bytes(500)]]]

    def test_a_still_is_not_made_of_key_frames(self) -> None:
        loop = coded(card_body(1))
        assert loop.length == 40 and sum(unit.idr for unit in loop.units[0]) == 1
        assert loop.entries == {0: (0, 0)}

    def test_every_phase_decodes_twice_round(self, body: StillBody, loop: IdleLoop) -> None:
        for index, (phase, position) in loop.entries.items():
            order = [(position + step) % loop.length for step in range(2 * loop.length)]
            pictures = decode([units_of(loop.units[phase][at].packets) for at in order])
            assert [read_card(picture) for picture in pictures] == [
                (index + step) % 50 for step in range(2 * loop.length)
            ]

    @pytest.mark.parametrize("mode", [0, 1])
    def test_parameter_sets_equal_those_of_a_live_encoder(self, body: StillBody, mode: int) -> None:
        small = Encoding(192, 128, Fraction(10), 500_000, 12, small_slices=1 - mode)
        loop = coded(body, encoding=small, mode=mode)
        live = H264Encoder(small)
        live.write(body.frames[3])
        assert parameter_sets(live.encode(True)) == loop.sets
        sizes = [len(p) - HEADER_SIZE for phase in loop.units for unit in phase for p in unit.packets]
        assert max(sizes) <= h264.MAX_PAYLOAD

    def test_loops_are_kept_on_disk_and_a_damaged_file_is_made_anew(
        self, body: StillBody, tmp_path: Path
    ) -> None:
        name = key(body)
        first = IdleCache(Now(), IdleStore(tmp_path))
        assert first.get(body, name) is None and first.ready
        made = first.get(body, name)
        file = next(tmp_path.glob("*.idle"))
        node = file.stat().st_ino
        second = IdleCache(Now(), IdleStore(tmp_path))
        second.get(body, name)
        again = second.get(body, name)
        assert again is not None and made is not None
        assert again.units == made.units and file.stat().st_ino == node
        file.write_bytes(file.read_bytes()[:-5])
        third = IdleCache(Now(), IdleStore(tmp_path))
        third.get(body, name)
        assert third.get(body, name).sets == made.sets
        assert not list(tmp_path.glob("*.tmp")) and len(list(tmp_path.iterdir())) == 1


class TestJoins:
    def test_idle_speech_idle(self, body: StillBody, loop: IdleLoop) -> None:
        pictures = [mouth(k % 50) if 13 <= k < 37 else Picture(k % 50) for k in range(120)]
        stream, kinds = play(pictures, body, loop)
        assert kinds[0] == "cached IDR" and set(kinds[1:13]) == {"cached"}
        assert kinds[13] == "IDR" and set(kinds[14:40]) == {"live"}
        assert kinds[40] == "cached IDR" and kinds[41:].count("IDR") == 0
        shown = decode(stream)
        assert [read_card(picture) for picture in shown] == [k % 50 for k in range(120)]
        open_mouths = [k for k, picture in enumerate(shown) if picture[70:90, 40:90].mean() > 190]
        assert open_mouths == list(range(13, 37))
        # A decoder that joins at any of the key frames shows the rest.
        for start in (13, 40):
            assert [read_card(p) for p in decode(stream[start:])] == [k % 50 for k in range(start, 120)]

    @pytest.mark.parametrize("periodic", [False, True])
    def test_jumps_of_an_idle_body_stay_in_the_cached_loop(self, periodic: bool) -> None:
        jumps = ((17, 31), (30, 0), (30, 18), (49, 18))
        body = StillBody("jumping", card_body(50).frames, jumps)
        feedback = frozenset[str]() if periodic else frozenset({"nack pli"})
        parameters = VideoParameters(96, ("127.0.0.1", 9), 192, 128, fps=Fraction(10), feedback=feedback)
        name = idle_key(body, parameters)
        loop = packetize_phases(encode_phases(body, name), name.mode, 50)
        playout = Playout(50, Fraction(10), jumps=jumps, choose_jump=IdleVariation(50, "a call"))
        pictures = [playout.tick() for _ in range(600)]
        stream, kinds = play(pictures, body, loop)
        assert set(kinds) == {"cached", "cached IDR"}
        path = [picture.loop_index for picture in pictures]
        assert [read_card(picture) for picture in decode(stream)] == path
        taken = [pair for pair in itertools.pairwise(path) if pair in jumps]
        assert set(taken) == set(jumps) - {(30, 18)}  # which would play a segment again at once
        assert 8 <= len(taken) <= 20
        if not periodic:  # without jumps there is one a round, twelve
            assert kinds.count("cached IDR") <= 18

    @pytest.mark.parametrize("at", [7, 10, 23, 49, 55])
    def test_a_key_frame_in_idle_is_live_until_the_next_cached_one(
        self, body: StillBody, loop: IdleLoop, at: int
    ) -> None:
        pictures = [Picture(k % 50) for k in range(100)]
        stream, kinds = play(pictures, body, loop, frozenset({at}))
        back = -(-at // 10) * 10
        assert kinds[at] == ("cached IDR" if at % 10 == 0 else "IDR")
        assert set(kinds[at + 1 : back]) <= {"live"} and kinds[back] == "cached IDR"
        assert [read_card(picture) for picture in decode(stream)] == [k % 50 for k in range(100)]
        assert [read_card(p) for p in decode(stream[at:])] == [k % 50 for k in range(at, 100)]

    def test_the_call_starts_between_two_key_frames(self, body: StillBody, loop: IdleLoop) -> None:
        stream, kinds = play([Picture(k % 50) for k in range(17, 60)], body, loop)
        assert kinds[:4] == ["IDR", "live", "live", "cached IDR"]
        assert len(decode(stream)) == 43

    def test_without_a_coded_loop_everything_is_live(self, body: StillBody) -> None:
        stream, kinds = play([Picture(k) for k in range(20)], body, None)
        assert kinds == ["IDR"] + ["live"] * 19
        assert [read_card(picture) for picture in decode(stream)] == list(range(20))

    def test_pictures_left_out_and_jumps_of_the_body_end_cached_idle(self, loop: IdleLoop) -> None:
        director = VideoDirector()
        assert isinstance(director.decide(Picture(0), loop), Cached)
        assert director.decide(Picture(3), loop, skipped=True) is None  # till the loop's next key frame
        assert director.decide(mouth(4), loop, skipped=True) == Live(idr=True, fresh=True)
        assert isinstance(director.decide(Picture(10), loop, skipped=True), Cached)
        assert director.decide(Picture(13), loop, skipped=True, keyframe=True) == Live(idr=True, fresh=True)
        assert isinstance(director.decide(Picture(20), loop), Cached)
        assert director.decide(Picture(33), loop) == Live(idr=True, fresh=True)
        assert director.decide(Picture(34), loop) == Live(idr=False, fresh=False)
        director.restart()
        assert director.decide(Picture(35), loop) == Live(idr=True, fresh=False)

    def test_live_streams_refresh_for_peers_that_cannot_ask(self) -> None:
        director = VideoDirector(refresh=10)
        kinds = [director.decide(mouth(k % 50), None).idr for k in range(31)]
        assert [k for k, idr in enumerate(kinds) if idr] == [0, 10, 20, 30]

    def test_a_still_can_be_entered_at_once(self) -> None:
        loop, director = coded(card_body(1)), VideoDirector()
        kinds = [director.decide(Picture(0), loop, keyframe=k == 5) for k in range(90)]
        assert [k for k, unit in enumerate(kinds) if unit.idr] == [0, 5, 45, 85]

    def test_plain_pictures(self) -> None:
        assert is_plain(Picture(3)) and is_plain(Picture(3, Frame(1, 1, 0, 3, "body")))
        assert not is_plain(mouth(3))
        assert not is_plain(Picture(3, hold=True)) and not is_plain(Picture(3, fade=0.5))


class TestCompositor:
    def test_a_mouth_is_pasted_over_its_own_body_frame(self, body: StillBody) -> None:
        out = Compositor().compose(mouth(7), body)
        wanted = card(7)
        paste_i420(wanted, 192, 128, RECT, mouth(7).frame.pixels)
        assert np.array_equal(out, wanted)
        assert np.array_equal(body.frames[7], card(7))

    def test_hold_repeats_the_last_picture_whole(self, body: StillBody) -> None:
        compositor = Compositor()
        first = compositor.compose(mouth(7), body).copy()
        assert np.array_equal(compositor.compose(Picture(8, hold=True), body), first)
        compositor.forget()
        assert np.array_equal(compositor.compose(Picture(9, hold=True), body), card(9))

    def test_a_fade_mixes_the_picture_before_it_into_the_moving_body(self, body: StillBody) -> None:
        compositor = Compositor()
        last = compositor.compose(mouth(7), body).astype(float).copy()
        for index, weight in ((8, 0.75), (9, 0.5), (10, 0.25)):
            out = compositor.compose(Picture(index, fade=weight), body)
            mixed = weight * last + (1 - weight) * card(index)
            assert np.abs(out - mixed).max() <= 1.0
        assert np.array_equal(compositor.compose(Picture(11), body), card(11))

    def test_a_mouth_comes_back_softly(self, body: StillBody) -> None:
        picture = mouth(7)
        whole = Compositor().compose(picture, body).astype(float).copy()
        out = Compositor().compose(Picture(7, picture.frame, fade=0.25), body)
        assert np.abs(out - (0.25 * card(7) + 0.75 * whole)).max() <= 1.0

    def test_a_whole_frame_replaces_the_body(self, body: StillBody) -> None:
        frame = Frame(1, 1, 0, 7, "mouth", Rect(0, 0, 192, 128), card(300).tobytes())
        assert np.array_equal(Compositor().compose(Picture(7, frame), body), card(300))


class TestLiveEncoder:
    def make(self, executor: Executor) -> tuple[EncoderPool, LiveEncoder]:
        pool = EncoderPool(1)
        pool.executor.shutdown()
        pool.executor = executor
        return pool, LiveEncoder(pool, ENCODING, 1)

    def test_one_picture_waits_and_its_key_frame_is_handed_on(self, body: StillBody) -> None:
        held = Held()
        pool, encoder = self.make(held)
        jobs = [LivePicture(Picture(k), body, k == 0, k == 0, k) for k in range(3)]
        for job in jobs:
            encoder.submit(job)
        assert len(held.jobs) == 1
        held.step()
        assert [job.dropped for job in jobs] == [True, True, False] and pool.replaced == 2
        assert jobs[2].done and h264.is_idr(units_of(jobs[2].packets))

    def test_a_cancelled_picture_does_not_come(self, body: StillBody) -> None:
        held = Held()
        _, encoder = self.make(held)
        job = LivePicture(Picture(0), body, True, True, 0)
        encoder.submit(job)
        encoder.cancel()
        held.step()
        assert job.dropped and not job.packets
        encoder.close()

    def test_threads_started_by_encoder_threads_are_no_nicer_than_they(self) -> None:
        main = os.getpriority(os.PRIO_PROCESS, os.getpid())
        nice: list[int] = []

        def work() -> None:
            be_nice(2)
            nice.append(os.getpriority(os.PRIO_PROCESS, 0))
            if len(nice) < 3:
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert nice == [min(19, main + 2)] * 3

    def test_a_fault_costs_one_picture_and_the_next_is_a_key_frame(self, body: StillBody) -> None:
        _, encoder = self.make(Now())
        jobs = [LivePicture(Picture(k), body, k == 0, k == 0, k) for k in range(3)]
        jobs[1].body = None
        for job in jobs:
            encoder.submit(job)
        assert jobs[1].dropped and jobs[1].done
        assert h264.is_idr(units_of(jobs[2].packets))


class TestOutbox:
    def outbox(self) -> tuple[PacketPacer, list[tuple[int, bool, int]]]:
        sent: list[tuple[int, bool, int]] = []
        return PacketPacer(lambda packet, marker, stamp: sent.append((packet[0], marker, stamp))), sent

    def test_four_packets_a_slot_in_order(self) -> None:
        outbox, sent = self.outbox()
        outbox.send(100, [bytearray([n]) for n in range(9)])
        outbox.send(200, [bytearray([50])])
        slots = []
        while True:
            before = len(sent)
            more = outbox.pump()
            slots.append(len(sent) - before)
            if not more:
                break
        assert slots == [4, 4, 2] and max(slots) <= PACKETS_PER_SLOT
        assert [number for number, _, _ in sent] == [*range(9), 50]
        assert [(number, stamp) for number, marker, stamp in sent if marker] == [(8, 100), (50, 200)]

    def test_a_picture_in_the_encoder_keeps_the_order(self, body: StillBody) -> None:
        outbox, sent = self.outbox()
        job = LivePicture(Picture(0), body, True, True, 1)
        outbox.expect(job)
        outbox.send(2, [bytearray([9])])
        assert not outbox.pump() and outbox.blocked and sent == []
        job.packets, job.done = [bytearray([7]), bytearray([8])], True
        assert not outbox.pump()
        assert sent == [(7, False, 1), (8, True, 1), (9, True, 2)]

    def test_dropped_pictures_are_passed_over(self, body: StillBody) -> None:
        outbox, sent = self.outbox()
        job = LivePicture(Picture(0), body, True, True, 1, dropped=True)
        outbox.expect(job)
        outbox.send(2, [bytearray([9])])
        assert not outbox.pump() and [stamp for _, _, stamp in sent] == [2] and outbox.dropped == 1


class TestEncoder:
    def test_a_quarter_second_never_exceeds_its_share(self) -> None:
        rng = np.random.default_rng(3)
        encoding = Encoding(320, 240, Fraction(25), 300_000, 13)
        encoder, sizes = H264Encoder(encoding), []
        for _ in range(100):  # noise that changes in every picture is the worst there is
            noise = rng.integers(16, 235, (360, 320)).astype(np.uint8)
            encoder.write(noise)
            sizes.append(8 * sum(len(unit) + 4 for unit in encoder.encode(False)))
        seconds = [sum(sizes[at : at + 25]) for at in range(10, 75)]
        assert max(seconds) <= 300_000 * 1.3

    def test_the_stream_says_bt_601_limited_range_and_its_level(self, body: StillBody) -> None:
        import av

        encoder = H264Encoder(ENCODING)
        encoder.write(body.frames[0])
        units = encoder.encode(True)
        sps = next(unit for unit in units if h264.nal_type(unit) == h264.SPS)
        # profile_idc 66 (Baseline), constraint_set1 (Constrained Baseline), level 1.2.
        assert sps[1] == 66 and sps[2] & 0x40 and sps[3] == 12
        decoder = av.CodecContext.create("h264", "r")
        picture = (decoder.decode(av.Packet(annex_b(units))) + decoder.decode(None))[0]
        assert (int(picture.color_range), int(picture.colorspace)) == (1, 6)

    def test_sizes_and_rates_out_of_range_are_refused(self) -> None:
        with pytest.raises(ValueError, match="both sizes must be even"):
            VideoParameters(96, ("127.0.0.1", 9), 321, 241)
        with pytest.raises(ValueError, match=r"level 5\.2"):
            _ = VideoParameters(96, ("127.0.0.1", 9), 8192, 8192, Fraction(30)).encoding
        tiers = [bitrate_tier(rate) for rate in (1, 64_000, 1_499_999, 1_500_000, 10**9)]
        assert tiers == [64_000, 64_000, 1_000_000, 1_500_000, 8_000_000]
        assert all(low <= high for low, high in itertools.pairwise(tiers))
