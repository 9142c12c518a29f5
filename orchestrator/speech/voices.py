"""The voices that are installed with the orchestrator."""

from __future__ import annotations

from orchestrator.speech.base import TextToSpeechFactory, VoiceByLanguage
from orchestrator.speech.espeak import EspeakVoice, languages
from orchestrator.speech.hibari import HibariVoice

VOICES: dict[str, TextToSpeechFactory] = {"HibariVoice": HibariVoice, "EspeakVoice": EspeakVoice}
"""By name."""


def voice_names() -> dict[str, str]:
    """By language tag: the natural voice for English, espeak-ng for every other language that it knows."""
    others = {tag: "EspeakVoice" for tag in languages() if tag.split("-")[0] != "en"}
    return {"en": "HibariVoice", **others}


def installed_voices() -> VoiceByLanguage:
    """Every one of them, spoken in this process."""
    return VoiceByLanguage({tag: VOICES[name] for tag, name in voice_names().items()})
