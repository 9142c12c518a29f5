"""Anthropic's models: ``POST /v1/messages``, streamed (docs.anthropic.com, "Streaming Messages")."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from orchestrator.assistants.base import AssistantError, Message, Tool
from orchestrator.assistants.model import (
    PROMPT,
    ModelSettings,
    ToolCall,
    Usage,
    events,
    http_client,
    tool_arguments,
)

URL = "https://api.anthropic.com/v1"
_VERSION = "2023-06-01"
_ASKED = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_ROLES = {"caller": "user", "assistant": "assistant"}
_CALLED = {"role": "user", "content": "(The call is answered.)"}
"""Before what the assistant has said first."""


class AnthropicService:
    """The system text and the tools are cached on their side (``cache_control``)."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        headers = {"x-api-key": settings.key.reveal(), "anthropic-version": _VERSION}
        self._client = http_client(settings, headers)

    def begin(self, history: Sequence[Message], text: str) -> list[dict[str, Any]]:
        """See :class:`orchestrator.assistants.model.ModelService`; two of one role in a row are one here, and the
        first one is a caller's."""
        out: list[dict[str, Any]] = []
        for message in [*history, Message("caller", text)]:
            role = _ROLES[message.role]
            if out and out[-1]["role"] == role:
                out[-1]["content"] += f" {message.text}"
            else:
                out += [dict(_CALLED)] if not out and role == "assistant" else []
                out.append({"role": role, "content": message.text})
        return out

    def add(self, transcript: list[dict[str, Any]], text: str, calls: Sequence[tuple[ToolCall, str]]) -> None:
        """See :class:`orchestrator.assistants.model.ModelService`."""
        wrote: list[dict[str, Any]] = [{"type": "text", "text": text}] if text.strip() else []
        wrote += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
            for call, _ in calls
        ]
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": result} for call, result in calls
        ]
        transcript += [{"role": "assistant", "content": wrote}, {"role": "user", "content": results}]

    async def stream(
        self, transcript: list[dict[str, Any]], tools: Sequence[Tool]
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """See :class:`orchestrator.assistants.model.ModelService`."""
        system = {
            "type": "text",
            "text": self._settings.prompt or PROMPT,
            "cache_control": {"type": "ephemeral"},
        }
        body = {
            "model": self._settings.model,
            "max_tokens": self._settings.max_tokens,
            "system": [system],
            "messages": transcript,
            "stream": True,
            "tools": [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in tools
            ],
        }
        calls: dict[int, list[str]] = {}  # id, name, arguments so far
        whole = False
        async with aclosing(events(self._client, "messages", body)) as found:
            async for event in found:
                index, delta = int(event.get("index", 0)), event.get("delta") or {}
                match event.get("type"):
                    case "message_start":
                        usage = (event.get("message") or {}).get("usage") or {}
                        yield Usage(sum(int(usage.get(name) or 0) for name in _ASKED))
                    case "message_delta":
                        usage = event.get("usage") or {}
                        yield Usage(int(usage.get("output_tokens") or 0))
                    case "content_block_start" if event.get("content_block", {}).get("type") == "tool_use":
                        block = event["content_block"]
                        calls[index] = [str(block.get("id", "")), str(block.get("name", "")), ""]
                    case "content_block_delta" if delta.get("type") == "text_delta":
                        yield str(delta.get("text", ""))
                    case "content_block_delta" if index in calls:
                        calls[index][2] += str(delta.get("partial_json", ""))
                    case "message_stop":
                        whole = True
                    case "error":
                        raise AssistantError("the assistant's service reports an error")
        if not whole:
            raise AssistantError("the assistant's service broke off in mid-answer")
        for id_, name, arguments in calls.values():
            yield ToolCall(id_, name, tool_arguments(arguments))

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()
