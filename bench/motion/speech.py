"""What is said while a face is watched: sentences whose sounds are known in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.portrait.features import RATE
from inference_server.lipsync.phones import Phone
from testing.training import espeak
from testing.training.corpus import Clip, to_16k
from testing.training.dataset import padded

VOICE = "en-us+Andrea"
TEXT = (
    "Hello, I am the voice that answers when you call.",
    "Are you sure that you want to go home so soon?",
    "You do not know who moved the blue shoes through the room.",
    "It is early in the evening, and the sea is as green as it ever was!",
    "Maybe a big apple pie would be a better buy for people in the park.",
    "Oh no, nobody told Joe to go slowly over the snow.",
    "What a day! I have never seen anything like it.",
    "Who would choose two new suits for you?",
    "Every evening, five or six of us sit outside and talk about the weather.",
    "If you ask me, that is not what she said at all.",
    "Can I help you with anything else, or shall we call it a day?",
    "The moon rose slowly over the cool and quiet pool.",
    "All the others are away until the end of October.",
    "And how is your father? I hear that he has been ill.",
    "He knows a lot, but he does not always say what he thinks.",
    "It takes about an hour, unless it rains; then it takes the whole afternoon.",
)
GAPS_S = (0.0, 0.25, 0.6, 0.1, 0.4)  # of further silence after a sentence, in turn


def sentence(text: str, wpm: int, pitch: int, voice: str = VOICE) -> Clip:
    """One text, at so many words a minute and eSpeak's pitch, with silence around it."""
    pcm, rate, sounds = espeak.speak(text, voice, wpm, pitch)
    return padded(Clip(to_16k(pcm, rate), sounds))


def spoken(seconds: float, voice: str = VOICE) -> Clip:
    """Up to so many seconds of :data:`TEXT`, again in another pitch after its end."""
    parts: list[NDArray[np.int16]] = []
    phones: list[Phone] = []
    at, said = 0.0, 0
    while at < seconds:
        clip = sentence(TEXT[said % len(TEXT)], 155 + 8 * (said % 3), 48 + 3 * (said // len(TEXT)), voice)
        parts += [clip.pcm, np.zeros(round(GAPS_S[said % len(GAPS_S)] * RATE), np.int16)]
        phones += [Phone(p.symbol, p.start + at, p.end + at) for p in clip.phones]
        at += (len(parts[-2]) + len(parts[-1])) / RATE
        said += 1
    return Clip(np.concatenate(parts), phones)
