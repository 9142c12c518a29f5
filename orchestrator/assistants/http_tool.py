"""Tools that ask a web service: fixed address, JSON in, text out, and never an address inside a private network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.assistants.arguments import ArgumentsSchema
from orchestrator.assistants.base import AssistantError, Tool

TIMEOUT_S = 5.0
MOST_BYTES = 16_384
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host. Raises ``OSError``."""


class HttpToolSettings(BaseModel):
    """One tool: the model's arguments are posted to ``url`` as JSON, if they are what ``parameters`` says."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,63}$")
    description: str
    url: str = Field(pattern=r"^https?://[^\s]+$")
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    headers: dict[str, str] = Field({}, repr=False)

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        try:
            ArgumentsSchema(self.parameters)
        except ValueError as error:
            raise ValueError(f"the tool '{self.name}' cannot be used: {error}") from None
        return self


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """As the system resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


class HttpTool:
    """``hosts`` may be asked, exactly as they are written."""

    def __init__(
        self,
        settings: HttpToolSettings,
        hosts: Sequence[str],
        resolve: Resolve = addresses_of,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings, self._hosts, self._resolve = settings, set(hosts), resolve
        self._transport = transport
        self._arguments = ArgumentsSchema(settings.parameters)
        if httpx.URL(settings.url).host not in self._hosts:
            raise AssistantError(
                f"the tool '{settings.name}' asks {httpx.URL(settings.url).host}, "
                "which VISAVIS_ASSISTANT_TOOL_HOSTS does not name"
            )

    @property
    def offered(self) -> Tool:
        """What the assistant is told of it."""
        return Tool(self._settings.name, self._settings.description, self._settings.parameters)

    async def use(self, arguments: dict[str, Any]) -> str:
        """The answer's text, cut at ``MOST_BYTES``. Raises :class:`AssistantError` with one sentence; for arguments
        that are not what the schema says nobody is asked."""
        content = self._arguments.written(arguments)
        url = httpx.URL(self._settings.url)
        headers = httpx.Headers({"content-type": "application/json"})
        headers.update(self._settings.headers)
        headers["host"] = url.netloc.decode()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                address = await self._address(url)
                # Asked for by address: a name that resolves to another one meanwhile changes nothing.
                async with httpx.AsyncClient(transport=self._transport, timeout=TIMEOUT_S) as client:
                    request = client.build_request(
                        "POST",
                        url.copy_with(host=address),
                        content=content,
                        headers=headers,
                        extensions={"sni_hostname": url.host},
                    )
                    response = await client.send(request, stream=True)
                    try:
                        return await self._text(response)
                    finally:
                        await response.aclose()
        except TimeoutError:
            raise AssistantError("the tool did not answer in time") from None
        except (httpx.HTTPError, OSError) as error:
            raise AssistantError(f"the tool could not be asked: {type(error).__name__}") from None

    async def _address(self, url: httpx.URL) -> str:
        port = url.port or (443 if url.scheme == "https" else 80)
        found = [ipaddress.ip_address(each) for each in await self._resolve(url.host, port)]
        if not found or not all(each.is_global and not each.is_multicast for each in found):
            raise AssistantError("the tool's host has an address inside a private network: it is not asked")
        return str(found[0])

    async def _text(self, response: httpx.Response) -> str:
        if response.status_code >= 300:
            raise AssistantError(f"the tool answered {response.status_code}")
        data = b""
        async for piece in response.aiter_bytes():
            data += piece
            if len(data) >= MOST_BYTES:
                break
        return data[:MOST_BYTES].decode("utf-8", "replace")
