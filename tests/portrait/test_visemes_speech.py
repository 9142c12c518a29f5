"""The network on speech made at test time: eSpeak NG's phonemes against the mouth."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from inference_server.engines.portrait.visemes import MouthParams, VisemeTrack
from inference_server.lipsync.phones import GROUPS, Phone, curves
from testing.training import espeak, evaluate
from testing.training.corpus import Clip, to_16k
from testing.training.dataset import padded

FPS = Fraction(25)
TEXT = (
    "Maybe a big apple pie would be a better buy. People move about the park with five happy puppies, "
    "and over the hill the moon was blue. We will see who comes, said Thomas."
)


def spoken(text: str, voice: str, rate: int = 150) -> Clip:
    pcm, sr, phones = espeak.speak(text, voice, rate)
    return padded(Clip(to_16k(pcm, sr), phones))


@pytest.fixture(scope="module")
def english() -> Clip:
    return spoken(TEXT, "en-us+Andrea")


@pytest.mark.parametrize("fps", [25, 30])
def test_an_unseen_voice_is_followed(english: Clip, fps: int) -> None:
    scores = evaluate.score([english], Fraction(fps))
    assert scores.r0 > 0.8
    assert abs(scores.lag_ms) < 20
    assert scores.width > 0.6
    assert scores.bilabials > 0.8
    assert scores.false_close < 0.1
    assert scores.pause_open < 0.02
    assert scores.misaligned < 0.35


def test_another_language_is_followed() -> None:
    clip = spoken("Guten Morgen, wie geht es Ihnen? Bitte kommen Sie um halb acht zum Bahnhof.", "de+f5")
    scores = evaluate.score([clip], FPS)
    assert scores.r0 > 0.8 and scores.width > 0.6


def test_the_mouth_rests_in_long_pauses_and_not_within_words(english: Clip) -> None:
    pause = np.zeros(16_000, np.int16)
    track = VisemeTrack()
    track.append(np.concatenate((english.pcm, pause)))
    track.end()
    mouths: list[MouthParams] = [track.params(k, FPS) for k in range(track.ready(FPS))]
    assert all(m.silent for m in mouths[-15:])
    truth = curves(english.phones, len(english.pcm) // 160)
    speech = truth.group != GROUPS.index("sil")
    within = [m for k, m in enumerate(mouths[: len(speech) // 4]) if speech[4 * k : 4 * k + 4].all()]
    assert not any(m.silent for m in within)


def test_what_is_far_under_speech_opens_no_mouth_before_the_first_word(english: Clip) -> None:
    murmur = (english.pcm[:32_000] * 10 ** (-36 / 20)).astype(np.int16)
    track = VisemeTrack()
    track.append(np.concatenate((murmur, english.pcm)))
    track.end()
    mouths: list[MouthParams] = [track.params(k, FPS) for k in range(track.ready(FPS))]
    first = 50 + int(english.phones[1].start * 25)
    assert all(m.silent for m in mouths[: first - 3])
    assert max(m.open for m in mouths[first : first + 25]) > 0.3


def test_curves_close_for_bilabials_and_round_for_rounded_vowels() -> None:
    phones = [Phone("", 0, 0.2), Phone("m", 0.2, 0.3), Phone("uː", 0.3, 0.5), Phone("iː", 0.5, 0.7)]
    mouth = curves([*phones, Phone("f", 0.7, 0.8), Phone("ɑ", 0.8, 1.0), Phone("", 1.0, 1.2)], 120).mouth
    assert mouth[25, 2] > 0.9 and mouth[25, 0] < 0.05
    assert mouth[40, 1] < -0.6 and mouth[60, 1] > 0.6
    assert mouth[75, 3] > 0.9
    assert mouth[90, 0] > 0.8
    assert mouth[5, 0] == pytest.approx(0.0, abs=1e-3) and mouth[115, 0] < 0.02


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(ValueError, match="no voice 'nowhere'"):
        espeak.speak("qapla", "nowhere")
