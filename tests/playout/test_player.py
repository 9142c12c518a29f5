"""The player: the sound that goes out with each picture, positions, interruptions. No clock, no server."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.playout.test_speaker import LOOP, Face
from visavis.client.start_delay import StartDelay
from visavis.frames import I420
from visavis.playout.player import FacePicture, Player, SpeechEvent, SpeechFinished, SpeechStarted
from visavis.playout.playout import Playout
from visavis.playout.turn import PCM


class Bodies:
    """Body frames whose luma is their index."""

    width, height = 4, 4
    frames = np.repeat(np.arange(LOOP, dtype=np.uint8), 24).reshape(LOOP, 6, 4)


class Scene:
    """A player of 25 or 30 pictures a second and a face that draws at once."""

    def __init__(self, fps: int = 25, rate: int | None = 24_000) -> None:
        self.fps = Fraction(fps)
        playout = Playout(LOOP, self.fps)
        self.face = Face(self.fps, playout)
        self.told: list[SpeechEvent] = []
        self.player = Player(
            Bodies(), playout, self.face, StartDelay(self.fps, initial_s=0.06), self.told.append
        )
        if rate is not None:
            self.player.use_rate(rate)

    def run(self, ticks: int) -> tuple[list[FacePicture], list[PCM | None]]:
        shown = [self.player.tick() for _ in range(ticks)]
        return [picture for picture, _ in shown], [sound for _, sound in shown]


def ramp(samples: int) -> PCM:
    return (np.arange(samples) % 30_000 + 1).astype(np.int16)


def index(pixels: I420) -> int:
    return int(pixels[0, -1])


@pytest.mark.parametrize("fps", [25, 30])
@pytest.mark.parametrize("rate", [8000, 24_000, 44_100])
def test_all_of_the_voice_goes_out_in_order_with_the_pictures_it_belongs_to(fps: int, rate: int) -> None:
    scene = Scene(fps, rate)
    voice = ramp(rate * 2 + 123)
    scene.player.feed(voice, rate)
    scene.player.end_turn()
    pictures, sounds = scene.run(3 * fps)
    assert np.array_equal(np.concatenate([s for s in sounds if s is not None]), voice)
    heard = 0
    for picture, sound in zip(pictures, sounds, strict=True):
        assert (picture.turn_id is None) == (sound is None)
        if sound is not None:
            assert picture.position == heard / rate
            heard += len(sound)
    assert scene.told == [SpeechStarted(1), SpeechFinished(1, len(voice) / rate, False)]
    assert [round(p.timestamp * fps) for p in pictures] == list(range(3 * fps))
    assert [index(p.pixels) for p in pictures] == [n % LOOP for n in range(3 * fps)]


def test_pictures_are_the_readers_own_and_rgb_is_there() -> None:
    scene = Scene()
    pictures, sounds = scene.run(3)
    assert sounds == [None] * 3
    assert [index(p.pixels) for p in pictures] == [0, 1, 2]
    assert pictures[0].rgb().shape == (4, 4, 3)


def test_the_mouth_of_a_picture_is_that_of_its_sound() -> None:
    """Frame k of the turn covers the sound from k / fps on."""
    scene = Scene()
    scene.player.feed(ramp(48_000), 24_000)
    scene.player.end_turn()
    pictures, _ = scene.run(80)
    spoken = [p for p in pictures if p.turn_id is not None]
    assert [round(p.position * 25) for p in spoken] == list(range(50))
    heads = [head for head in scene.face.playheads if 0 <= head < 32_000]
    assert heads == [k * 640 for k in range(50)]


def test_finished_is_told_with_the_last_sound_and_not_when_the_mouth_has_closed() -> None:
    scene = Scene()
    scene.player.feed(ramp(12_000), 24_000)
    scene.player.end_turn()
    while not scene.told or isinstance(scene.told[-1], SpeechStarted):
        _, sound = scene.player.tick()
    assert sound is not None and len(sound) == 12_000 % 960
    assert scene.player.speaking  # the mouth closes


def test_a_turn_that_ends_after_it_ran_dry_is_finished_at_once() -> None:
    scene = Scene()
    scene.player.feed(ramp(9600), 24_000)
    scene.run(40)
    assert scene.told == [SpeechStarted(1)]
    scene.player.end_turn()
    assert len(scene.told) == 2 and abs(_finished(scene).position - 0.4) < 0.001


def test_speech_that_stalls_goes_on_where_it_was() -> None:
    scene = Scene()
    voice = ramp(24_000)
    scene.player.feed(voice[:9600], 24_000)
    _, first = scene.run(40)
    scene.player.feed(voice[9600:], 24_000)
    scene.player.end_turn()
    _, second = scene.run(60)
    said = np.concatenate([s for s in first + second if s is not None])
    assert np.array_equal(said[said != 0], voice[voice != 0])
    assert scene.told == [SpeechStarted(1), SpeechFinished(1, 1.0, False)]


def test_an_interruption_tells_where_the_voice_was_and_drops_the_rest() -> None:
    scene = Scene()
    scene.player.feed(ramp(72_000), 24_000)
    scene.player.end_turn()
    scene.player.feed(ramp(24_000), 24_000)
    _, sounds = scene.run(37)
    heard = sum(len(s) for s in sounds if s is not None) / 24_000
    assert 1.0 < heard < 1.5
    assert scene.player.interrupt() == heard
    assert scene.told == [
        SpeechStarted(1),
        SpeechFinished(1, heard, True),
        SpeechFinished(2, 0.0, True),
    ]
    pictures, sounds = scene.run(10)
    assert sounds == [None] * 10 and all(p.pixels[0, 0] == index(p.pixels) for p in pictures)
    assert scene.player.interrupt() == 0.0 and len(scene.told) == 3
    scene.player.feed(ramp(4800), 24_000)
    scene.player.end_turn()
    _, sounds = scene.run(30)
    assert np.array_equal(np.concatenate([s for s in sounds if s is not None]), ramp(4800))


def test_the_end_of_a_voice_that_has_been_heard_is_no_interruption() -> None:
    scene = Scene()
    scene.player.feed(ramp(9600), 24_000)
    scene.player.end_turn()
    while len(scene.told) < 2:
        scene.player.tick()
    assert scene.player.interrupt() == 0.0
    assert scene.told[1:] == [SpeechFinished(1, 0.4, False)]


def test_other_rates_are_resampled_and_a_change_within_a_turn_is_no_new_turn() -> None:
    scene = Scene(rate=16_000)
    scene.player.feed(np.full(12_000, 500, np.int16), 24_000)
    scene.player.feed(np.full(4000, 500, np.int16), 8000)
    scene.player.end_turn()
    _, sounds = scene.run(60)
    assert sum(len(s) for s in sounds if s is not None) == 16_000
    assert scene.face.samples == 16_000
    assert scene.told == [SpeechStarted(1), SpeechFinished(1, 1.0, False)]


def test_bytes_may_be_cut_within_a_sample() -> None:
    scene = Scene(rate=16_000)
    data = ramp(8000).tobytes()
    for at in range(0, len(data), 333):
        scene.player.feed(data[at : at + 333], 16_000)
    scene.player.end_turn()
    _, sounds = scene.run(40)
    assert np.array_equal(np.concatenate([s for s in sounds if s is not None]), ramp(8000))


def test_speech_from_before_the_rate_is_known_waits() -> None:
    scene = Scene(rate=None)
    scene.player.feed(ramp(4000), 16_000)
    scene.player.end_turn()
    scene.player.feed(ramp(2000), 16_000)
    assert scene.player.speaking
    with pytest.raises(RuntimeError, match="use_rate"):
        scene.player.tick()
    with pytest.raises(ValueError, match="4000 to 192000"):
        scene.player.use_rate(1)
    scene.player.use_rate(16_000)
    scene.player.end_turn()
    scene.run(60)
    assert [e for e in scene.told if isinstance(e, SpeechFinished)] == [
        SpeechFinished(1, 0.25, False),
        SpeechFinished(2, 0.125, False),
    ]


def test_another_rate_cuts_what_is_said() -> None:
    scene = Scene()
    scene.player.feed(ramp(48_000), 24_000)
    scene.run(20)
    scene.player.use_rate(24_000)
    assert len(scene.told) == 1
    scene.player.use_rate(48_000)
    assert _finished(scene).interrupted and 0.2 < _finished(scene).position < 0.8


def _finished(scene: Scene) -> SpeechFinished:
    last = scene.told[-1]
    assert isinstance(last, SpeechFinished)
    return last
