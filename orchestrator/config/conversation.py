"""Settings of conversation: greeting, assistant, recognition, voices, limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from orchestrator.assistants.http_tool import HttpToolSettings
from orchestrator.config.kinds import CommaList, OptionalPath
from orchestrator.conversation.sentences import GREETING
from orchestrator.speech.base import SpeechError
from orchestrator.speech.voices import installed_voices
from visavis.service.secret import Secret, SecretUrl
from visavis.service.settings import ServiceSettings, from_json


class ConversationSettings(ServiceSettings):
    """Greeting, assistant, recognition, voices, limits."""

    greeting: str = Field(
        "Hello, I am the face of this call. Ask the API to make me say something.",
        description="spoken when a call is answered; empty: nothing",
    )
    assistant: Literal["none", "scripted", "openai", "anthropic", "websocket"] = Field(
        "none", description="who talks with callers; none: the API alone does"
    )
    assistant_script: OptionalPath = Field(
        None, description="YAML file of the scripted assistant; empty: the built-in one"
    )
    assistant_url: SecretUrl = Field(
        SecretUrl(),
        description="root of an OpenAI-compatible or Anthropic service (http://127.0.0.1:11434/v1), or the "
        "ws:// or wss:// address of your own",
        repr=False,
    )
    assistant_key: Secret = Field(Secret(), description="key of the assistant's service", repr=False)
    assistant_model: str = Field("", description="name of the model")
    assistant_prompt: str = Field("", description="what the model is told of its task; empty: to be brief")
    assistant_greeting: str = Field(
        GREETING,
        description="what an assistant says first that is no script; where it is not set, in the call's language",
    )
    assistant_max_tokens: int = Field(300, ge=1, description="most tokens of one reply")
    assistant_tools: Annotated[list[HttpToolSettings], BeforeValidator(from_json)] = Field(
        [],
        description='web services that models may ask, as JSON: [{"name": "weather", "description": "...", '
        '"url": "https://...", "parameters": {...}}]',
        repr=False,
    )
    assistant_tool_hosts: CommaList = Field([], description="hosts that these tools may ask")
    assistant_transfer_to: str = Field(
        "", description="where an assistant may send callers (sip:help@example.com); empty: nowhere"
    )
    stt: Literal["builtin", "deepgram", "openai"] = Field(
        "builtin", description="who recognises what callers say; builtin: on this machine, English only"
    )
    stt_url: SecretUrl = Field(
        SecretUrl(),
        description="root of the recognition service; empty: the vendor's, whose protocol others speak, too",
        repr=False,
    )
    stt_key: Secret = Field(Secret(), description="key of the recognition service", repr=False)
    stt_model: str = Field("", description="its model; empty: nova-3, gpt-4o-mini-transcribe")
    tts: Literal["builtin", "elevenlabs", "openai"] = Field(
        "builtin",
        description="who speaks; builtin: the voices on this machine, which also speak where others fail",
    )
    tts_url: SecretUrl = Field(
        SecretUrl(),
        description="root of the voice's service; empty: the vendor's, whose protocol others speak, too",
        repr=False,
    )
    tts_key: Secret = Field(Secret(), description="key of the voice's service", repr=False)
    tts_model: str = Field("", description="its model; empty: eleven_flash_v2_5, gpt-4o-mini-tts")
    tts_voice: str = Field("", description="its voice: an id of ElevenLabs, a name of OpenAI (alloy)")
    max_conversations: int = Field(
        20, ge=1, description="callers that assistants talk with at once; the next one is told so"
    )
    conversation_minutes: int = Field(
        60, ge=0, description="minutes that an assistant talks with one caller, who is told; 0: no limit"
    )
    conversation_turns: int = Field(
        200, ge=0, description="answers that a caller gets from an assistant; 0: no limit"
    )
    conversation_tokens: int = Field(
        200_000, ge=0, description="tokens of a model for one caller, of requests and replies; 0: no limit"
    )
    language: str = Field("en", description="language of greeting and say: en, de, fr, es, cmn...")

    @property
    def assistant_greets(self) -> bool:
        """An assistant brings a greeting of its own, unless one is set, be it an empty one."""
        return self.assistant != "none" and "greeting" not in self.model_fields_set

    @property
    def first_words(self) -> str:
        """What is said when a call is answered, but for an assistant's greeting."""
        return "" if self.assistant_greets else self.greeting

    @field_validator("language")
    @classmethod
    def _check_language(cls, value: str) -> str:
        try:
            installed_voices().check(value)
        except SpeechError as error:
            raise ValueError(str(error)) from None
        return value
