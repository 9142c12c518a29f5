"""The assistants, tools and services of others that settings name."""

from __future__ import annotations

from orchestrator.assistants.anthropic import URL as ANTHROPIC
from orchestrator.assistants.anthropic import AnthropicService
from orchestrator.assistants.base import Assistant, AssistantError
from orchestrator.assistants.http_tool import HttpTool
from orchestrator.assistants.model import ModelAssistant, ModelSettings
from orchestrator.assistants.openai import OpenAIService
from orchestrator.assistants.script import DEFAULT, read_script
from orchestrator.assistants.scripted import ScriptedAssistant
from orchestrator.assistants.websocket import WebSocketAssistant
from orchestrator.config import Settings
from orchestrator.listening.stt import SttSettings
from orchestrator.speech.elevenlabs import ElevenLabsVoice
from orchestrator.speech.openai import OpenAIVoice
from orchestrator.speech.service import TtsSettings, VoiceService


def assistants_of(settings: Settings) -> dict[str, Assistant]:
    """By name: the scripted one, and the one that is configured. Raises :class:`AssistantError`."""
    found: dict[str, Assistant] = {
        "scripted": ScriptedAssistant(read_script(settings.assistant_script or DEFAULT))
    }
    name, url = settings.assistant, settings.assistant_url.reveal()
    if name in ("openai", "websocket") and not url:
        raise AssistantError(f"the assistant '{name}' needs VISAVIS_ASSISTANT_URL")
    if name in ("openai", "anthropic") and not settings.assistant_model:
        raise AssistantError(f"the assistant '{name}' needs VISAVIS_ASSISTANT_MODEL")
    model = ModelSettings(
        url or ANTHROPIC,
        settings.assistant_model,
        settings.assistant_key,
        settings.assistant_prompt,
        settings.assistant_greeting,
        settings.assistant_max_tokens,
    )
    if name == "openai":
        found[name] = ModelAssistant(name, OpenAIService(model), model.greeting)
    elif name == "anthropic":
        found[name] = ModelAssistant(name, AnthropicService(model), model.greeting)
    elif name == "websocket":
        found[name] = WebSocketAssistant(url, settings.assistant_key, model.greeting)
    return found


def http_tools_of(settings: Settings) -> dict[str, HttpTool]:
    """By name. Raises :class:`AssistantError` for one whose host is not allowed."""
    return {each.name: HttpTool(each, settings.assistant_tool_hosts) for each in settings.assistant_tools}


def recognition_of(settings: Settings) -> SttSettings:
    """Who recognises. Raises :class:`AssistantError`."""
    if settings.stt == "builtin":
        return SttSettings()
    if settings.stt == "deepgram" and not settings.stt_key:
        raise AssistantError("recognition by Deepgram needs VISAVIS_STT_KEY")
    if settings.stt == "openai" and not (settings.stt_key or settings.stt_url):
        raise AssistantError(
            "recognition by 'openai' needs VISAVIS_STT_KEY, or VISAVIS_STT_URL of your own server"
        )
    return SttSettings(settings.stt, settings.stt_url.reveal(), settings.stt_key.reveal(), settings.stt_model)


def voice_service_of(settings: Settings) -> VoiceService | None:
    """Who speaks; None: the voices on this machine. Raises :class:`AssistantError`."""
    wanted = TtsSettings(settings.tts_url.reveal(), settings.tts_key, settings.tts_model, settings.tts_voice)
    if settings.tts == "elevenlabs":
        if not (settings.tts_key and settings.tts_voice):
            raise AssistantError("a voice of ElevenLabs needs VISAVIS_TTS_KEY and VISAVIS_TTS_VOICE, its id")
        return ElevenLabsVoice(wanted)
    if settings.tts == "openai":
        if not (settings.tts_key or wanted.url):
            raise AssistantError(
                "a voice by 'openai' needs VISAVIS_TTS_KEY, or VISAVIS_TTS_URL of your own server"
            )
        return OpenAIVoice(wanted)
    return None
