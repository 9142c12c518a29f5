"""Playout under whatever comes: the body never jumps."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.frames import Frame, Rect, frame_at, frame_start
from visavis.playout.playout import Playout

N = 50


class Server:
    """Draws for the anchors it was told, in order, and loses or delays what it is told to."""

    def __init__(self, playout: Playout) -> None:
        self.playout = playout
        self.pending: list[tuple[int, Frame]] = []

    def draw(self, k: int, arrives: int) -> None:
        anchor = self.playout.anchor
        if anchor is None:
            return
        index = anchor.loop_index + k - frame_at(anchor.sample, self.playout.fps)
        start = frame_start(k, self.playout.fps)
        frame = Frame(anchor.turn_id, anchor.epoch, start, index % N, "mouth", Rect(0, 0, 2, 2), b"123456")
        self.pending.append((arrives, frame))

    def deliver(self, now: int) -> None:
        for at, frame in [p for p in self.pending if p[0] <= now]:
            self.pending.remove((at, frame))
            self.playout.on_frame(frame)


STEP = st.sampled_from(
    ["idle", "turn", "audio", "audio", "audio", "gap", "resume", "end", "interrupt", "skip"]
)


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(st.tuples(STEP, st.integers(1, 12)), min_size=1, max_size=25),
    delays=st.lists(st.integers(-6, 12), min_size=1, max_size=40),
    fps=st.sampled_from([Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(15)]),
    jumps=st.sampled_from([(), ((N - 1, 7), (6, 20), (6, 0), (19, 0), (19, 7))]),
)
def test_the_body_never_jumps(
    steps: list[tuple[str, int]], delays: list[int], fps: Fraction, jumps: tuple[tuple[int, int], ...]
) -> None:
    """Whatever comes: the index moves by one a tick, while idle also where the body's poses are equal; a mouth is
    only over its own body, a hold is bounded."""
    playout = Playout(N, fps, jumps=jumps, choose_jump=lambda _, targets: targets[0])
    server = Server(playout)
    expected, clock, turn, epoch, heard, base, held, blends = 0, 0, 0, 0, 0, 0, 0, 0

    def tick(sample: int | None) -> None:
        nonlocal expected, clock, held, blends
        server.deliver(clock)
        if sample is not None:
            server.draw(frame_at(sample, fps) + 6, clock + 6 + delays[clock % len(delays)])
        idle = playout.turn_id is None
        picture = playout.tick(sample)
        assert picture.loop_index == expected
        if picture.frame is not None:
            assert picture.frame.loop_index == expected
            assert not picture.hold
            if sample is not None:
                assert abs(picture.frame.sample - sample) < 2 * frame_start(1, fps)
        held = held + 1 if picture.hold else 0
        assert held <= round(Fraction(1, 5) * fps)
        blends += 1 if picture.fade is not None and picture.frame is None else 0
        assert picture.fade is None or 0 < picture.fade < 1
        targets = [target for start, target in jumps if idle and start == expected]
        expected = targets[0] if targets else (expected + 1) % N
        assert playout.loop_index == expected
        clock += 1

    for what, count in steps:
        match what:
            case "idle" | "gap":
                for _ in range(count):
                    tick(None)
            case "turn":
                turn, base, heard = turn + 1, 0, 0
                anchor = playout.begin_turn(turn, epoch, count)
                assert anchor.loop_index == (expected + count) % N
                for _ in range(count):
                    tick(None)
            case "audio" if playout.turn_id == turn and turn:
                for _ in range(count):
                    tick(base + frame_start(heard, fps))
                    heard += 1
            case "resume" if playout.turn_id == turn and turn:
                base, heard = base + frame_start(heard, fps), 0
                playout.resume(base, count)
                for _ in range(count):
                    tick(None)
            case "end":
                playout.end_turn(base + frame_start(heard, fps))
            case "interrupt":
                epoch += 1
                playout.interrupt()
                before = blends
                for _ in range(3):
                    tick(None)
                assert blends == before
                assert playout.idle
            case "skip":
                playout.skip(count)
                expected = (expected + count) % N
