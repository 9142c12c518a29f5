"""What assistants may do in a call besides talk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.assistants.base import AssistantError, Tool
from orchestrator.assistants.http_tool import HttpTool
from orchestrator.calls.call import Call, CallGone
from orchestrator.calls.gateway import DialRefused, RequestRefused

Allowed = Callable[[str], None]
"""Raises :class:`DialRefused` for a destination that may not be called."""
KEYS = r"^[0-9*#A-Da-d]{1,64}$"
_PAUSE_S = 0.3
"""After the last word, before the call ends."""


def only(to: str) -> Allowed:
    """Callers may be sent to this one destination; "" to none."""

    def check(wanted: str) -> None:
        if not to or wanted != to:
            raise DialRefused(
                "callers cannot be sent there: VISAVIS_ASSISTANT_TRANSFER_TO names where they can"
            )

    return check


def tools_of(transfer_to: str) -> list[Tool]:
    """Those of a call; a transfer where there is somewhere to go."""
    tools = [
        Tool("hang_up", "End the call, after saying goodbye."),
        Tool(
            "press_keys",
            "Press keys of the phone, as for a menu of another machine.",
            {
                "type": "object",
                "properties": {"keys": {"type": "string", "pattern": KEYS}},
                "required": ["keys"],
            },
        ),
    ]
    if transfer_to:
        tools.append(Tool("transfer", "Send the caller to a person, after saying so. This ends your part."))
    return tools


class CallTools:
    """The tools of one call. ``use`` answers with what came of it, for the assistant to read."""

    def __init__(
        self,
        call: Call,
        transfer_to: str,
        allowed: Allowed,
        http: Mapping[str, HttpTool] | None = None,
    ) -> None:
        self._call, self._to, self._allowed = call, transfer_to, allowed
        self._http = http or {}

    @property
    def offered(self) -> Sequence[Tool]:
        """What the assistant is told of."""
        return [*tools_of(self._to), *(tool.offered for tool in self._http.values())]

    async def use(self, name: str, arguments: dict[str, Any]) -> str:
        """Raises nothing: an assistant is told in a sentence what did not work."""
        try:
            match name:
                case "hang_up":
                    await asyncio.sleep(_PAUSE_S)
                    self._call.hang_up("assistant")
                    return "the call is over"
                case "transfer":
                    to = str(arguments.get("to") or self._to)
                    self._allowed(to)
                    status = await self._call.transfer(to)
                    return "transferred" if status < 300 else f"nobody took the call (status {status})"
                case "press_keys":
                    await self._call.press(str(arguments.get("keys", "")), 100)
                    return "pressed"
                case _ if name in self._http:
                    return await self._http[name].use(arguments)
        except (AssistantError, DialRefused, RequestRefused, CallGone, ValueError) as error:
            return str(error)
        return f"there is no tool '{name[:40]}'"
