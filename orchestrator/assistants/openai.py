"""Models behind an OpenAI-compatible endpoint (OpenAI, Ollama, vLLM, llama.cpp): streamed chat completions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from orchestrator.assistants.base import AssistantError, Message, Tool
from orchestrator.assistants.model import (
    DONE,
    PROMPT,
    ModelSettings,
    ToolCall,
    Usage,
    events,
    http_client,
    tool_arguments,
)

_ROLES = {"caller": "user", "assistant": "assistant"}
_OWN_HOSTS = ("api.openai.com", ".api.openai.com", ".openai.azure.com")
"""Where newer models refuse ``max_tokens``; servers of others may know nothing else."""


class OpenAIService:
    """API reference: platform.openai.com, "Chat Completions". ``url`` ends with ``/v1`` for most services."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        own = httpx.URL(settings.url).host.endswith(_OWN_HOSTS)
        self._limit = "max_completion_tokens" if own else "max_tokens"
        key = settings.key.reveal()
        self._client = http_client(settings, {"authorization": f"Bearer {key}"} if key else {})

    def begin(self, history: Sequence[Message], text: str) -> list[dict[str, Any]]:
        """See :class:`orchestrator.assistants.model.ModelService`."""
        system = {"role": "system", "content": self._settings.prompt or PROMPT}
        said = [{"role": _ROLES[each.role], "content": each.text} for each in history]
        return [system, *said, {"role": "user", "content": text}]

    def add(self, transcript: list[dict[str, Any]], text: str, calls: Sequence[tuple[ToolCall, str]]) -> None:
        """See :class:`orchestrator.assistants.model.ModelService`."""
        used = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call, _ in calls
        ]
        transcript.append({"role": "assistant", "content": text or None, "tool_calls": used})
        transcript += [{"role": "tool", "tool_call_id": call.id, "content": result} for call, result in calls]

    async def stream(
        self, transcript: list[dict[str, Any]], tools: Sequence[Tool]
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """See :class:`orchestrator.assistants.model.ModelService`."""
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": transcript,
            "stream": True,
            "stream_options": {"include_usage": True},
            self._limit: self._settings.max_tokens,
        }
        if tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.parameters,
                    },
                }
                for tool in tools
            ]
        calls: dict[int, list[str]] = {}  # id, name, arguments so far
        whole = False
        async with aclosing(events(self._client, "chat/completions", body)) as found:
            async for event in found:
                whole = whole or event is DONE
                if "error" in event:
                    raise AssistantError("the assistant's service reports an error")
                if usage := event.get("usage"):
                    yield Usage(int(usage.get("total_tokens") or 0))
                for choice in event.get("choices") or ():
                    whole = whole or bool(choice.get("finish_reason"))
                    delta = choice.get("delta") or {}
                    if text := delta.get("content"):
                        yield str(text)
                    for number, part in enumerate(delta.get("tool_calls") or ()):
                        # Some services leave the index away and send each call whole.
                        call = calls.setdefault(int(part.get("index", len(calls) + number)), ["", "", ""])
                        function = part.get("function") or {}
                        call[0] = part.get("id") or call[0]
                        call[1] += function.get("name") or ""
                        call[2] += function.get("arguments") or ""
        if not whole:
            raise AssistantError("the assistant's service broke off in mid-answer")
        for index in sorted(calls):
            id_, name, arguments = calls[index]
            yield ToolCall(id_ or f"call_{index}", name, tool_arguments(arguments))

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()
