"""The voices that are installed with the orchestrator."""

from __future__ import annotations

from orchestrator.speech.base import TextToSpeechFactory, VoiceByLanguage
from orchestrator.speech.espeak import EspeakVoice, languages
from orchestrator.speech.hibari import HibariVoice


def installed_voices() -> VoiceByLanguage:
    """The natural voice for English, espeak-ng for every other language that it knows."""
    others = {tag: EspeakVoice for tag in languages() if tag.split("-")[0] != "en"}
    voices: dict[str, TextToSpeechFactory] = {"en": HibariVoice, **others}
    return VoiceByLanguage(voices)
