"""Any order of requests and results: one clear error at most, and what was taken is given back."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_server.engine.messages import Append, CloseTrack, EndTrack, Message, OpenTrack
from inference_server.engine.scheduler import Batch, Scheduler
from inference_server.errors import RequestError
from inference_server.streams.admission import SpeakingSlots
from inference_server.streams.responses import FrameReady, Interrupted, Response, TurnAccepted, TurnFinished
from inference_server.streams.session import Session, SessionParameters
from visavis.frames import Rect, frame_at, frame_start

FPS = Fraction(25)
RECT = Rect(0, 0, 2, 2)
NOW = 99  # the turn, and the epoch, of the moment
ids = st.sampled_from([NOW] * 12 + [0, 1, 2])
epochs = st.sampled_from([NOW] * 12 + [0, 1, 2])
samples = st.one_of(st.integers(0, 20_000), st.sampled_from([2**40, 2**63]))
steps = st.one_of(
    st.tuples(st.just("start"), samples),
    st.tuples(st.just("audio"), ids, epochs, st.integers(0, 3000)),
    st.tuples(st.just("end"), ids, epochs),
    st.tuples(st.just("anchor"), ids, epochs, samples, st.sampled_from([*range(0, 50, 7), 60])),
    st.tuples(st.just("playhead"), ids, epochs, st.integers(-5000, 30_000), st.booleans()),
    st.tuples(st.just("interrupt"), st.sampled_from([0, 0, 1])),
    st.tuples(st.just("draw"), st.sampled_from(["mouth", "mouth", "body", "failed"])),
    st.tuples(st.just("draw"), st.just("mouth")),
    st.tuples(st.just("lose")),
    st.tuples(st.just("expire")),
)


class Machine:
    """A session between a client and an engine that do anything at all."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turn = 10
        self.slots = SpeakingSlots(1)
        self.said: list[Response] = []
        self.tracks: dict[int, tuple[int, bool]] = {}
        self.sent_audio: dict[tuple[int, int], int] = {}
        self.flying: list[Batch] = []
        self.scheduler = Scheduler([(1, 1.0), (4, 2.0)], 15)
        numbers = itertools.count(1)
        self.session = Session(
            SessionParameters("s", "a", FPS, 50, 3, 6400, 10_000, 160_000),
            self.slots,
            new_track=lambda: next(numbers),
            command=self.command,
            say=self.said.append,
        )

    def command(self, message: Message) -> None:
        match message:
            case OpenTrack():
                assert message.track not in self.tracks
                self.tracks[message.track] = (message.origin, False)
            case Append():
                at, ended = self.tracks[message.track]
                assert not ended
                self.tracks[message.track] = (at + len(message.payload) // 2, ended)
            case EndTrack():
                self.tracks[message.track] = (self.tracks[message.track][0], True)
            case CloseTrack():
                del self.tracks[message.track]

    def step(self, name: str, *values: int | str | bool) -> None:
        s, now = self.session, self.now
        for job in self.scheduler.abandoned():  # as the renderer does before it hands out anything
            s.rendered(job, "dropped", None, None, now)
        if name in ("audio", "end", "anchor", "playhead"):
            turn, epoch, *rest = values
            values = (self.turn if turn == NOW else turn, s.epoch if epoch == NOW else epoch, *rest)
        match name, values:
            case "start", (int(sample),):
                self.turn += 1
                s.turn_start(self.turn, s.epoch, sample, now)
            case "audio", (int(turn), int(epoch), int(count)):
                at = self.sent_audio.get((turn, epoch), 0)
                s.audio(turn, epoch, at, bytes(2 * count), now)
                self.sent_audio[turn, epoch] = at + count
            case "end", (int(turn), int(epoch)):
                s.end_of_turn(turn, epoch, now)
            case "anchor", (int(turn), int(epoch), int(sample), int(index)):
                s.anchor(turn, epoch, sample, index, now)
            case "playhead", (int(turn), int(epoch), int(sample), bool(playing)):
                s.playhead(turn, epoch, sample, playing, now)
            case "interrupt", (int(more),):
                s.interrupt(s.epoch + more, now)
            case "draw", (str(kind),):
                batch = self.scheduler.next_batch(s.turns_due(), now)
                if batch is not None:
                    for job in batch.jobs:
                        assert job.turn.alive and 0 <= job.loop_index < 50 and 0 <= job.alpha <= 1
                        s.rendered(job, kind, RECT, bytes(6), now)
            case "lose", _:
                batch = self.scheduler.next_batch(s.turns_due(), now)
                if batch is not None:
                    for job in self.scheduler.failed(batch):
                        s.rendered(job, "failed", None, None, now)
            case "expire", _:
                self.now += 2.0
                s.expire(self.now)
        for track, (end, ended) in list(self.tracks.items()):
            whole = frame_at(end, FPS)
            s.track_ready(track, whole + (ended and end > frame_start(whole, FPS)), ended, self.now)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, min_size=10, max_size=80).map(lambda plan: [("start", 0), *plan]))
def test_nothing_breaks_and_everything_is_given_back(plan: list[tuple[str, *tuple[int, ...]]]) -> None:
    machine = Machine()
    live: dict[int, int] = {}  # turn to epoch
    for step in plan:
        before = len(machine.said)
        try:
            machine.step(*step)
        except RequestError as error:
            assert error.kind == "invalid_argument" and error.sentence[0].isupper()
            machine.session.close()
        for said in machine.said[before:]:
            match said:
                case TurnAccepted():
                    assert said.turn_id not in live
                    live[said.turn_id] = machine.session.epoch
                case TurnFinished():
                    del live[said.turn_id]  # once, and only of a turn that is alive
                case FrameReady():
                    assert live[said.turn_id] == said.epoch == machine.session.epoch
                case Interrupted():
                    live = {turn: epoch for turn, epoch in live.items() if epoch >= said.epoch}
        if not machine.session.speaking:
            assert machine.slots.used == 0 and not machine.tracks
        else:  # a slot is kept for as long as something is said with it
            assert machine.slots.used == machine.session.holds_slot
    machine.session.close()
    assert machine.slots.used == 0 and not machine.tracks
