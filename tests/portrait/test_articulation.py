"""Lips go from sound to sound no faster than lips can, begin before the voice, and still meet."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from inference_server.avatars.portrait.lips import GROWTH, WIDE_MM
from inference_server.engines.portrait.articulation import (
    AHEAD_S,
    LIPS_PART,
    NARROW,
    SPEED,
    Articulation,
    frames_ahead,
)
from inference_server.engines.portrait.atlas import parted
from inference_server.engines.portrait.visemes import FIRM, REST, MouthParams, VisemeTrack, _is_firm
from tests.portrait.test_visemes_speech import spoken
from visavis.frames import frame_start

FPS = Fraction(25)


class Said(VisemeTrack):
    """A track whose frames are known."""

    def __init__(self, mouths: Sequence[MouthParams]) -> None:
        super().__init__()
        self._mouths = list(mouths)
        self.end()

    def ready(self, fps: Fraction) -> int:
        return len(self._mouths)

    def params(self, k: int, fps: Fraction) -> MouthParams:
        return self._mouths[k]


def lips(mouths: Sequence[MouthParams], fps: Fraction = FPS) -> list[MouthParams]:
    track = Articulation(Said(mouths), fps)
    return [track.params(k) for k in range(track.ready())]


def openings(mouths: Sequence[MouthParams]) -> list[float]:
    return [m.open * parted(m.close, m.fv) for m in mouths]


def vowel(opening: float = 1.0) -> MouthParams:
    return MouthParams(opening, 0.1, 0.0, 0.0, False)


LABIAL = MouthParams(0.4, 0.0, 0.95, 0.0, False)


@pytest.mark.parametrize("fps", [12, 15, 24, 25, 30, 50])
def test_no_step_is_quicker_than_lips_are(fps: int) -> None:
    rng = np.random.default_rng(1)
    said = [vowel(float(o)) if o > 0.15 else LABIAL for o in rng.uniform(0, 1, 400)]
    millimetres = WIDE_MM * np.array(openings(lips(said, Fraction(fps)))) ** GROWTH
    ahead = int(AHEAD_S * fps)
    assert np.abs(np.diff(millimetres)).max() <= max(SPEED / fps, WIDE_MM / (ahead + 1)) + 1e-6


def test_lips_meet_for_every_labial() -> None:
    said = [REST] * 5 + [vowel()] * 4 + [LABIAL] + [vowel()] * 4 + [LABIAL] * 2 + [vowel()] * 4
    for told, shown in zip(said, openings(lips(said)), strict=True):
        assert shown == pytest.approx(0) if told is LABIAL else True


def test_lips_part_before_the_voice_unless_it_begins_with_closed_ones() -> None:
    told = lips([REST] * 10 + [vowel()] * 6)
    assert [m.silent for m in told[:8]] == [True] * 8
    assert 0.1 <= told[8].open < told[9].open < 1
    labial = openings(lips([REST] * 10 + [LABIAL] * 2 + [vowel()] * 6))
    assert labial[8:12] == pytest.approx([0, 0, 0, 0])


def test_lips_that_meet_for_a_frame_stay_near_for_another() -> None:
    narrower = openings(lips([vowel(0.6)] * 6 + [LABIAL] + [vowel(0.4)] * 6))
    assert narrower[6] == pytest.approx(0) and narrower[7] == pytest.approx(LIPS_PART)
    assert narrower[8] > 0.3
    wider = openings(lips([vowel(0.4)] * 6 + [LABIAL] + [vowel(0.6)] * 6))
    assert wider[6] == pytest.approx(0) and wider[7] > 0.3
    longer = openings(lips([vowel(0.6)] * 6 + [LABIAL] * 2 + [vowel(0.4)] * 6))
    assert longer[6:8] == pytest.approx([0, 0]) and longer[8] > 0.3
    for fps in (12, 20):
        slow = openings(lips([vowel(0.6)] * 6 + [LABIAL] + [vowel(0.4)] * 6, Fraction(fps)))
        assert slow[6] == pytest.approx(0) and slow[7] > 0.3


def test_a_sound_of_one_frame_that_is_no_labial_does_not_shut_the_lips() -> None:
    falling, rising = [vowel(0.7)] * 4 + [vowel(0.4)], [vowel(0.3)] * 4
    assert openings(lips([*falling, vowel(0.02), *rising]))[5] == pytest.approx(NARROW)
    assert openings(lips([*falling, vowel(0.02), vowel(0.02), *rising]))[5] < 0.15


def test_corners_of_the_mouth_ease_over_the_frames_beside() -> None:
    spread, rounded = vowel(0.5)._replace(width=0.8), vowel(0.5)._replace(width=-0.8)
    widths = [mouth.width for mouth in lips([spread] * 6 + [rounded] * 6)]
    assert widths[4:8] == pytest.approx([0.8, 0.4, -0.4, -0.8])


@pytest.mark.parametrize("fps", [12, 15, 24, 25, 30, 50, 60])
def test_a_mouth_depends_on_no_frame_beyond_those_it_waits_for(fps: int) -> None:
    rng = np.random.default_rng(2)
    bites = np.where(rng.uniform(0, 1, 300) > 0.6, rng.uniform(0.5, 1, 300), 0)
    said = [
        vowel(float(o))._replace(fv=float(fv)) if o > 0.15 else LABIAL
        for o, fv in zip(rng.uniform(0, 1, 300), bites, strict=True)
    ]
    for start in range(20, 300, 40):
        said[start : start + 4] = [REST] * 4
    whole, rate = lips(said, Fraction(fps)), Fraction(fps)
    ahead = frames_ahead(rate)
    for k in range(len(said) - ahead):
        assert Articulation(Said(said[: k + ahead + 1]), rate).params(k) == whole[k]


def test_a_steady_mouth_stays_as_it_is() -> None:
    told = lips([vowel(0.5)] * 20)
    assert [m.open for m in told[4:16]] == pytest.approx([0.5] * 12)


def test_a_frame_waits_for_two_more_than_its_sound() -> None:
    clip = spoken("Hello, who are you?", "en-us+Andrea")
    voice = VisemeTrack()
    track = Articulation(voice, FPS)
    for at in range(0, len(clip.pcm), 160):
        voice.append(clip.pcm[at : at + 160])
        assert track.ready() == max(0, voice.ready(FPS) - 2)
        assert frame_start(track.ready() + 1, FPS) + 152 * 16 > at
    with pytest.raises(IndexError):
        track.params(track.ready())
    voice.end()
    assert track.ready() == voice.ready(FPS)


def test_frames_do_not_change_when_more_is_heard() -> None:
    clip = spoken("Why did you go there on a Monday?", "en-us+Andrea")
    whole = VisemeTrack()
    whole.append(clip.pcm)
    whole.end()
    expected = Articulation(whole, FPS)
    voice = VisemeTrack()
    track = Articulation(voice, FPS)
    for at in range(0, len(clip.pcm), 1000):
        voice.append(clip.pcm[at : at + 1000])
        for k in range(max(0, track.ready() - 5), track.ready()):
            assert track.params(k) == expected.params(k)


def test_a_doubt_of_a_hop_is_no_closure() -> None:
    assert not _is_firm(np.array([0.0, 0.0, 0.3, 0.6, 0.2, 0.0], np.float32), FIRM)
    assert _is_firm(np.array([0.0, 0.4, 0.9, 0.7, 0.1, 0.0], np.float32), FIRM)
    assert _is_firm(np.array([0.0, 0.0, 0.0, 0.0, 0.1, 0.95], np.float32), FIRM)  # goes on in the next frame


def test_a_tongue_between_the_teeth_is_no_lip_there() -> None:
    """As the network hears a th in two frames: sure of the one, unsure of the other."""
    around = [vowel()] * 4

    def told(*fv: float) -> list[MouthParams]:
        return lips([*around, *(vowel()._replace(fv=sure) for sure in fv), *around])[2:-2]

    assert [m.fv for m in told(0.97, 0.52)] == [0] * 6
    assert min(openings(told(0.97, 0.52))) > 0.8
    assert [m.fv for m in told(0.97, 0.9)] == [0, 0, 0.9, 0.9, 0, 0]
