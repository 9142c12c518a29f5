"""What assistants may do in a call besides talk."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.assistants.base import AssistantError, Tool
from orchestrator.assistants.http_tool import HttpTool
from orchestrator.calls.call import Call, CallGone
from orchestrator.calls.gateway import DialRefused, RequestRefused
from orchestrator.calls.portraits import AvatarCatalog

KEYS = r"^[0-9*#A-Da-d]{1,64}$"
_MOST_AVATARS = 50
_PAUSE_S = 0.3
"""After the last word, before the call ends."""


def tools_of(transfer_to: str, avatars: Sequence[str] = ()) -> list[Tool]:
    """Those of a call: a transfer where there is somewhere to go, another face where there is another one."""
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
    if len(avatars) > 1:
        properties = {"avatar": {"type": "string", "enum": list(avatars[:_MOST_AVATARS])}}
        tools.append(
            Tool(
                "show_avatar",
                "Show the caller another face from now on.",
                {"type": "object", "properties": properties, "required": ["avatar"]},
            )
        )
    return tools


class CallTools:
    """The tools of one call. ``use`` answers with what came of it, for the assistant to read.

    Callers can be sent to ``transfer_to`` alone, and there only where the dial plan has it, as every transfer.
    """

    def __init__(
        self,
        call: Call,
        transfer_to: str,
        http: Mapping[str, HttpTool] | None = None,
        catalog: AvatarCatalog | None = None,
    ) -> None:
        self._call, self._to = call, transfer_to
        self._http = http or {}
        self._catalog = catalog

    @property
    def offered(self) -> Sequence[Tool]:
        """What the assistant is told of."""
        avatars = self._catalog.names() if self._catalog is not None else []
        return [*tools_of(self._to, avatars), *(tool.offered for tool in self._http.values())]

    async def use(self, name: str, arguments: dict[str, Any]) -> str:
        """Raises nothing: an assistant is told in a sentence what did not work."""
        try:
            match name:
                case "hang_up":
                    await asyncio.sleep(_PAUSE_S)
                    self._call.hang_up("assistant")
                    return "the call is over"
                case "transfer":
                    if not self._to or arguments.get("to", self._to) != self._to:
                        return (
                            "callers cannot be sent there: VISAVIS_ASSISTANT_TRANSFER_TO names where they can"
                        )
                    status = await self._call.transfer(self._to)
                    return "transferred" if status < 300 else f"nobody took the call (status {status})"
                case "press_keys":
                    keys = str(arguments.get("keys", ""))
                    if not re.fullmatch(KEYS, keys):
                        return "nothing was pressed: keys are 0 to 9, *, #, A to D, at most 64 of them"
                    await self._call.press(keys, 100)
                    return "pressed"
                case "show_avatar" if self._catalog is not None:
                    wanted = str(arguments.get("avatar", ""))
                    portrait = self._catalog.get(wanted)
                    if portrait is None:
                        return f"there is no avatar '{wanted[:64]}'"
                    self._call.show_avatar(portrait)
                    return "shown"
                case _ if name in self._http:
                    return await self._http[name].use(arguments)
        except (AssistantError, DialRefused, RequestRefused, CallGone, ValueError) as error:
            return str(error)
        return f"there is no tool '{name[:40]}'"
