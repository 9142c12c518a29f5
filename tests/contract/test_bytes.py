"""Every message, both ways over both transports: its bytes are those recorded, and are read as they were meant."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_server.errors import RequestError, unavailable
from inference_server.frontends import convert, describe
from inference_server.frontends.access import make_guard
from inference_server.frontends.http import app as http_app
from inference_server.frontends.http import schemas
from inference_server.frontends.http import wire as server_http
from tests.contract import samples as s
from tests.support.credentials import local_headers
from visavis import errors
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.contract import Capacity
from visavis.client import http_wire, wire
from visavis.client import messages as m
from visavis.client.http import HttpServerClient
from visavis.contract import protobuf_codec as codec

RECORDED: dict[str, str] = json.loads(Path(__file__).with_name("recorded.json").read_text())
SERVER: Any = s.Server(Capacity(4, 3, 2, 256, True, False, frozenset({"bert", "anna"})))


def text(data: bytes | str) -> str:
    return data if isinstance(data, str) else f"hex:{data.hex()}"


def recorded(name: str) -> Any:
    told = RECORDED[name]
    return bytes.fromhex(told[4:]) if told.startswith("hex:") else told


def requests() -> dict[str, str]:
    """Client to server."""
    made: dict[str, str] = {}
    for name, source in s.SOURCES.items():
        made[f"grpc {name}"] = text(wire.prepare_to(source).SerializeToString())
    for name, first in s.OPENS.items():
        made[f"grpc {name}"] = text(wire.request_to(first).SerializeToString())
        made[f"http {name}"] = text(http_wire.request_to(first))
    for name, request in s.REQUESTS.items():
        made[f"grpc {name}"] = text(wire.request_to(request).SerializeToString())
        made[f"http {name}"] = text(http_wire.request_to(request))
    return made


def responses() -> dict[str, str]:
    """Server to client."""
    made = {
        "grpc capabilities": text(codec.encode(describe.capabilities(SERVER)).SerializeToString()),
        "grpc capacity": text(codec.encode(SERVER.capacity()).SerializeToString()),
        "grpc avatar": text(
            codec.encode(describe.avatar(s.avatar(Fraction(30000, 1001)))).SerializeToString()
        ),
        "http error": text(server_http.error(unavailable("The server is draining: try another server."))),
    }
    for name, stream in {
        "opened": s.stream(),
        "opened, whole": s.stream("rgb24", "whole", Fraction(30000, 1001)),
    }.items():
        made[f"grpc {name}"] = text(
            codec.encode_response(describe.opened(SERVER, stream)).SerializeToString()
        )
        made[f"http {name}"] = text(server_http.opened(SERVER, stream))
    for name, response in s.RESPONSES.items():
        made[f"grpc {name}"] = text(convert.response(s.stream(), response).SerializeToString())
        made[f"http {name}"] = text(server_http.response(s.stream(), response))
    for name in ("mouth", "body"):
        whole = s.stream("rgb24", "whole")
        made[f"grpc whole {name}"] = text(convert.response(whole, s.RESPONSES[name]).SerializeToString())
        made[f"http whole {name}"] = text(server_http.response(whole, s.RESPONSES[name]))
    return made


async def routes() -> dict[str, str]:
    """What the routes answer, and the event streams."""
    app = http_app.make_app(SERVER, make_guard(SERVER.settings), asyncio.Event())
    made: dict[str, str] = {}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://server", headers=local_headers()
    ) as http:
        for path in ("/v1/avatars/anna", "/v1/capabilities", "/v1/capacity"):
            made[f"GET {path}"] = (await http.get(path)).text
        made["POST /v1/avatars"] = (await http.post("/v1/avatars?fps=30000/1001", content=b"portrait")).text
        headers = {"Accept": "text/event-stream"}
        made["events /v1/avatars"] = (await http.post("/v1/avatars", content=b"x", headers=headers)).text
    watch = http_app._watch(SERVER, asyncio.Event())
    made["events /v1/capacity"] = await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]
    return made


async def preparations() -> dict[str, str]:
    """What the client asks of ``POST /v1/avatars``."""
    made: dict[str, str] = {}

    async def answer(request: httpx.Request) -> httpx.Response:
        about = (
            f"{request.method} {request.url} {request.headers['content-type']} {request.headers['accept']} "
        )
        made[name] = about + request.content.decode()
        return httpx.Response(200, text=RECORDED["events /v1/avatars"])

    for source in s.SOURCES:
        name = f"http {source}"
        client = HttpServerClient("http://server")
        await client.close()
        client._http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://server")
        steps: list[float] = []
        avatar = await client.prepare_source(s.SOURCES[source], steps.append)
        assert (avatar.avatar_id, avatar.jumps, steps) == ("anna", ((2, 0), (1, 2)), [0.25])
        await client.close()
    return made


async def everything() -> dict[str, str]:
    return requests() | responses() | await routes() | await preparations()


async def test_every_message_is_the_recorded_bytes() -> None:
    made = await everything()
    assert {name: told for name, told in made.items() if RECORDED[name] != told} == {}
    assert set(RECORDED) == set(made)


# --- the server reads -----------------------------------------------------------------------------------------


def asked_over_grpc(data: bytes) -> list[Any]:
    stream: Any = s.Requests()
    convert.apply(stream, pb.ConverseRequest.FromString(data))
    return stream.asked[0]  # type: ignore[no-any-return]


def asked_over_http(data: str | bytes) -> list[Any]:
    stream: Any = s.Requests()
    server_http.apply(stream, data)
    return stream.asked[0]  # type: ignore[no-any-return]


ASKED: dict[str, list[Any]] = {
    "turn_start": ["turn_start", 1 << 40, 7, 12_800],
    "turn_start, from 0": ["turn_start", 1, 0, 0],
    "audio": ["audio", 1 << 40, (1 << 32) - 1, 640, s.PCM],
    "end_of_turn": ["end_of_turn", 1 << 40, 7],
    "anchor": ["anchor", 1 << 40, 7, 640, 2],
    "playhead": ["playhead", 1 << 40, 7, 1280, True],
    "playhead, before": ["playhead", 1, 0, -320, False],
    "interrupt": ["interrupt", 8],
}


@pytest.mark.parametrize("name", ASKED)
def test_the_server_reads_requests(name: str) -> None:
    assert asked_over_grpc(recorded(f"grpc {name}")) == ASKED[name]
    assert asked_over_http(recorded(f"http {name}")) == ASKED[name]


def test_the_server_reads_what_may_be_left_out() -> None:
    head = '{"type":"playhead","turn_id":1,"epoch":2,"audio_sample":3,"of_a_later_version":[4]}'
    assert asked_over_http(head) == ["playhead", 1, 2, 3, True]
    assert asked_over_http('{"type":"turn_start","turn_id":1,"epoch":2}') == ["turn_start", 1, 2, 0]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "[]",
        "1",
        '{"turn_id":1}',
        '{"type":"dance"}',
        '{"type":["playhead"]}',
        '{"type":"stats","queue_ms":1,"render_ms":1,"late":0}',
        '{"type":"interrupt"}',
        '{"type":"interrupt","epoch":-1}',
        '{"type":"interrupt","epoch":4294967296}',
        '{"type":"interrupt","epoch":1.0}',
        '{"type":"interrupt","epoch":"1"}',
        '{"type":"interrupt","epoch":true}',
        '{"type":"interrupt","epoch":null}',
        '{"type":"end_of_turn","turn_id":4611686018427387904,"epoch":0}',
        '{"type":"playhead","turn_id":1,"epoch":0,"audio_sample":-4611686018427387904}',
        '{"type":"playhead","turn_id":1,"epoch":0,"audio_sample":1,"playing":1}',
        '{"type":"audio","turn_id":1,"epoch":0,"first_sample":0,"pcm":""}',
        '{"type":"open","avatar_id":"anna"}',
        '{"type":"open","avatar_id":"\\ud800"}',
        "[" * 16_000,
        '{"type":"interrupt","epoch":' + "9" * 10_000 + "}",
    ],
)
def test_the_server_refuses_what_is_no_message(message: str) -> None:
    with pytest.raises(RequestError) as refused:
        asked_over_http(message)
    assert refused.value.kind == "invalid_argument" and len(refused.value.sentence) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"avatar_id": None},
        {"avatar_id": "a" * 129},
        {"session_id": "a" * 129},
        {"width": -2},
        {"width": 1 << 32},
        {"pixel_format": "yuv"},
        {"scope": 1},
        {"scope": []},
        {"fps": "x"},
        {"fps": "25/0"},
        {"fps": 25},
        {"fps": "1" * 33},
        {"body_sha256": "zz"},
        {"body_sha256": "00" * 31},
    ],
)
def test_the_server_refuses_an_open_that_is_none(fields: dict[str, Any]) -> None:
    message = json.dumps({"type": "open", "avatar_id": "anna"} | fields)
    with pytest.raises(RequestError) as refused:
        server_http.open_request(message)
    assert refused.value.kind == "invalid_argument" and len(refused.value.sentence) < 300


def opened(told: Any) -> tuple[Any, ...]:
    size = (told.width or 0, told.height or 0, told.fps)
    return (told.avatar_id, *size, told.pixel_format, told.scope, told.session_id, told.body_sha256)


def test_the_server_reads_open() -> None:
    whole = ("anna", 0, 0, None, "rgb24", "whole", "call-7", s.SHA256)
    plain = ("anna", 0, 0, None, "i420", "rectangle", "", b"")
    for name, wanted in {"open": whole, "open, as it comes": plain}.items():
        message = pb.ConverseRequest.FromString(recorded(f"grpc {name}"))
        assert opened(convert.open_request(message.open)) == wanted
        assert opened(server_http.open_request(recorded(f"http {name}"))) == wanted
    assert opened(server_http.open_request('{"type":"open","avatar_id":"anna","fps":""}')) == plain
    assert opened(convert.open_request(pb.Open(avatar_id="anna"))) == plain
    sized = ("anna", 64, 48, Fraction(30000, 1001), "i420", "rectangle", "", b"")
    told = json.dumps({"type": "open", "avatar_id": "anna", "width": 64, "height": 48, "fps": "30000/1001"})
    assert opened(server_http.open_request(told)) == sized
    rate = pb.FrameRate(num=30000, den=1001)
    assert opened(convert.open_request(pb.Open(avatar_id="anna", width=64, height=48, fps=rate))) == sized


# --- the client reads -----------------------------------------------------------------------------------------


def test_the_client_reads_opened() -> None:
    for name, fps, agreed in (
        ("opened", Fraction(25), ("i420", "rectangle")),
        ("opened, whole", Fraction(30000, 1001), ("rgb24", "whole")),
    ):
        over_grpc = wire.opened_from(pb.ConverseResponse.FromString(recorded(f"grpc {name}")).opened)
        over_http = http_wire.response_from(recorded(f"http {name}"), None, "server")
        assert over_grpc == over_http
        a = over_grpc.avatar
        assert (a.avatar_id, a.body_id, a.body_sha256, a.fps) == ("anna", "body", s.SHA256, fps)
        assert (a.width, a.height, a.loop_length, a.jumps) == (16, 12, 3, ((2, 0), (1, 2)))
        assert (over_grpc.pixel_format, over_grpc.scope, over_grpc.largest_rect) == (*agreed, s.RECT)
        times = (over_grpc.look_ahead_ms, over_grpc.history_ms, over_grpc.window_ms)
        assert times == (101, 3000, 400) and over_grpc.closing_frames == 3


@pytest.mark.parametrize("name", [n for n in s.RESPONSES if n not in ("mouth", "body")])
def test_the_client_reads_responses(name: str) -> None:
    agreed = wire.opened_from(pb.ConverseResponse.FromString(recorded("grpc opened")).opened)
    message = pb.ConverseResponse.FromString(recorded(f"grpc {name}"))
    assert wire.response_from(message, agreed) == s.RESPONSES[name]
    assert http_wire.response_from(recorded(f"http {name}"), agreed, "server") == s.RESPONSES[name]


@pytest.mark.parametrize("name", ["mouth", "body", "whole mouth", "whole body"])
def test_the_client_reads_frames(name: str) -> None:
    whole = "opened, whole" if "whole" in name else "opened"
    agreed = wire.opened_from(pb.ConverseResponse.FromString(recorded(f"grpc {whole}")).opened)
    over_grpc = wire.response_from(pb.ConverseResponse.FromString(recorded(f"grpc {name}")), agreed)
    assert over_grpc == http_wire.response_from(recorded(f"http {name}"), agreed, "server")
    sent = s.RESPONSES[name.removeprefix("whole ")]
    for field in ("turn_id", "epoch", "sample", "loop_index", "kind", "last"):
        assert getattr(over_grpc, field) == getattr(sent, field)
    if "whole" not in name:
        assert (over_grpc.rect, over_grpc.pixels) == (sent.rect, sent.pixels)  # type: ignore[union-attr]


def test_the_client_reads_what_the_routes_tell() -> None:
    message = pb.Capacity.FromString(recorded("grpc capacity"))
    told = wire.capacity_from(message)
    assert told == http_wire.capacity_from(json.loads(recorded("GET /v1/capacity")))
    assert (told.speaking_slots, told.speaking_slots_free, told.sessions, told.max_sessions) == (4, 3, 2, 256)
    assert told.ready and not told.draining and told.avatar_ids == {"anna", "bert"}
    avatar = wire.avatar_from(pb.Avatar.FromString(recorded("grpc avatar")))
    assert avatar == http_wire.avatar_from(json.loads(recorded("POST /v1/avatars")))
    assert avatar.fps == Fraction(30000, 1001)
    able = wire.capabilities_from(pb.Capabilities.FromString(recorded("grpc capabilities")))
    assert able == http_wire.capabilities_from(json.loads(recorded("GET /v1/capabilities")))
    assert (able.engine, able.build, able.pixel_formats) == ("mock", "1a", ("i420", "rgb24"))
    assert (able.max_width, able.look_ahead_ms, able.history_ms, able.ready) == (1280, 101, 3000, True)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "7",
        "{}",
        "[" * 100_000,
        '{"type": "turn_finished"}',
        '{"type": "turn_rejected", "turn_id": 1, "reason": 2}',
        '{"type": "stats", "queue_ms": -1, "render_ms": 1, "late": 0}',
        '{"type": "opened"}',
        *(
            json.dumps(json.loads(RECORDED["http opened"]) | wrong)
            for wrong in (
                {"pixel_format": "yuv"},
                {"largest_rect": [1, 2, 3]},
                {"largest_rect": 5},
                {"avatar": None},
                {"avatar": []},
                *(
                    {"avatar": json.loads(RECORDED["GET /v1/avatars/anna"]) | wrong_avatar}
                    for wrong_avatar in ({"fps": "0"}, {"fps": "1/0"}, {"width": 15}, {"jumps": [[1]]})
                ),
            )
        ),
    ],
)
def test_the_client_refuses_nonsense(told: str) -> None:
    with pytest.raises(errors.ProtocolError) as refused:
        http_wire.response_from(told, None, "server")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "wrong", [{"pixel_format": 9}, {"scope": 9}, {"avatar": pb.Avatar(width=16, height=12, loop_length=3)}]
)
def test_the_client_refuses_nonsense_over_grpc(wrong: dict[str, Any]) -> None:
    told = pb.ConverseResponse.FromString(recorded("grpc opened")).opened
    told.ClearField(next(iter(wrong)))
    told.MergeFrom(pb.Opened(**wrong))
    with pytest.raises(errors.ProtocolError):
        wire.opened_from(told)


def test_a_server_that_tells_less_is_understood() -> None:
    told = pb.ConverseResponse.FromString(recorded("grpc opened")).opened
    told.ClearField("largest_rect")
    told.ClearField("window_ms")
    told.avatar.jumps[0].to = 99
    read = wire.opened_from(told)
    assert (read.largest_rect, read.window_ms, read.avatar.jumps) == (None, 400, ((1, 2),))
    over_http = json.loads(recorded("http opened"))
    del over_http["largest_rect"], over_http["avatar"]["jumps"]
    assert http_wire.opened_from(over_http).largest_rect is None
    able = pb.Capabilities(engine="next", pixel_formats=[2, 77])
    assert wire.capabilities_from(able).pixel_formats == ("rgb24",)


@pytest.mark.parametrize(
    ("shown", "path"),
    [
        (schemas.AVATAR, "/v1/avatars/anna"),
        (schemas.CAPABILITIES, "/v1/capabilities"),
        (schemas.CAPACITY, "/v1/capacity"),
    ],
)
def test_openapi_shows_what_the_routes_answer(shown: Any, path: str) -> None:
    answer = json.loads(recorded(f"GET {path}"))
    assert shown.model_validate(answer, extra="forbid").model_dump(mode="json") == answer
    assert {"description", "type"} <= set(
        schemas.CAPABILITIES.model_json_schema()["properties"]["history_ms"]
    )


def test_the_client_passes_over_what_a_later_server_says() -> None:
    agreed = wire.opened_from(pb.ConverseResponse.FromString(recorded("grpc opened")).opened)
    for later in ('{"type": "applause"}', b"\7later"):
        assert http_wire.response_from(later, agreed, "server") is None
    more = json.loads(recorded("http turn_accepted")) | {"of_a_later_version": 1}
    assert http_wire.response_from(json.dumps(more), agreed, "server") == m.TurnAccepted(1 << 40)
    assert wire.response_from(pb.ConverseResponse(), agreed) is None


if __name__ == "__main__":
    made = json.dumps(asyncio.run(everything()), indent=1, ensure_ascii=False)
    Path(__file__).with_name("recorded.json").write_text(made + "\n")
