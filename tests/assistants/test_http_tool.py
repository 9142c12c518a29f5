"""Tools over HTTP: allowed hosts only, never a private address, short answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from orchestrator.assistants.base import AssistantError
from orchestrator.assistants.http_tool import MOST_BYTES, HttpTool, HttpToolSettings

SETTINGS = HttpToolSettings(
    name="weather",
    description="Tells the weather.",
    url="https://api.example.com/weather",
    headers={"x-key": "k"},
    parameters={
        "type": "object",
        "properties": {
            "town": {"type": "string", "pattern": "^[A-Z]"},
            "days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "uniqueItems": True},
        },
        "$defs": {"day": {"type": "integer", "maximum": 6}},
    },
)


def tool(answer: httpx.Response, *addresses: str) -> tuple[HttpTool, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("api.example.com", 443)
        return addresses

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    return HttpTool(SETTINGS, ["api.example.com"], resolve, httpx.MockTransport(respond)), asked


async def test_it_is_asked_by_the_address_that_was_checked() -> None:
    weather, asked = tool(httpx.Response(200, text="sunny"), "93.184.216.34")
    assert await weather.use({"town": "Bonn"}) == "sunny"
    request = asked[0]
    assert (request.url.host, request.headers["host"]) == ("93.184.216.34", "api.example.com")
    assert request.extensions["sni_hostname"] == "api.example.com"
    assert request.headers["x-key"] == "k" and request.content == b'{"town":"Bonn"}'
    assert request.headers["content-type"] == "application/json"


async def test_headers_that_are_set_take_the_place_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    weather, asked = tool(httpx.Response(200, text="sunny"), "93.184.216.34")
    kind = "application/json; charset=utf-8"
    monkeypatch.setattr(SETTINGS, "headers", {"Content-Type": kind, "Host": "other.example.com"})
    assert await weather.use({}) == "sunny"
    assert asked[0].headers.get_list("content-type") == [kind]
    assert asked[0].headers.get_list("host") == ["api.example.com"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "0.0.0.0", "::ffff:10.0.0.1", "224.0.0.1"],
)
async def test_an_address_in_a_private_network_is_never_asked(address: str) -> None:
    weather, asked = tool(httpx.Response(200), "93.184.216.34", address)
    with pytest.raises(AssistantError, match="private network"):
        await weather.use({})
    assert asked == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"town": 5}, r"the arguments are wrong, correct them: \$\.town: 5 is not of type 'string'"),
        ({"town": "bonn"}, r"\$\.town: 'bonn' does not match"),
        ({"days": [1, 9]}, r"\$\.days\[1\]: 9 is greater than the maximum of 6"),
        ({"days": [1, 1]}, "has non-unique elements"),
        ({"town": float("nan")}, "cannot be written as JSON"),
        ({"note": "x" * 17_000}, "longer than 16384 bytes"),
    ],
)
async def test_wrong_arguments_are_told_in_a_sentence_and_nobody_is_asked(
    arguments: dict[str, Any], sentence: str
) -> None:
    weather, asked = tool(httpx.Response(200, text="sunny"), "93.184.216.34")
    with pytest.raises(AssistantError, match=sentence) as told:
        await weather.use(arguments)
    assert asked == [] and len(str(told.value)) < 300 and "\n" not in str(told.value)
    assert await weather.use({"town": "Bonn", "days": [0, 6]}) == "sunny"


async def test_long_answers_are_cut_and_others_refused() -> None:
    weather, _ = tool(httpx.Response(200, text="x" * 100_000), "93.184.216.34")
    assert len(await weather.use({})) == MOST_BYTES
    for status in (302, 404, 500):
        weather, _ = tool(httpx.Response(status, headers={"location": "http://10.0.0.1/"}), "93.184.216.34")
        with pytest.raises(AssistantError, match=f"answered {status}"):
            await weather.use({})


def test_a_host_that_is_not_allowed_is_refused_at_the_start() -> None:
    with pytest.raises(AssistantError, match=r"asks api\.example\.com, which VISAVIS_ASSISTANT_TOOL_HOSTS"):
        HttpTool(SETTINGS, ["example.com"])
