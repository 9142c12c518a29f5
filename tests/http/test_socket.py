"""``WS /v1/converse`` against a real server: the contract's semantics, bad input, slow readers, limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.support.avatar_client import Conversation, connect, portrait, voice
from tests.support.credentials import FLEET_TOKEN
from tests.support.http import PATIENCE_S, Talk, client, refusal, socket
from tests.support.servers import InferenceServer, running_server
from visavis.client.http_wire import AUDIO, FRAME
from visavis.frames import Frame, Rect

SIZE = {"width": 320, "height": 240}


async def prepared(server: InferenceServer, seed: int = 0) -> dict[str, Any]:
    async with client(server) as http:
        answer = await http.post("/v1/avatars", params=SIZE, content=portrait(seed))
        told: dict[str, Any] = answer.raise_for_status().json()
        return told


@pytest.mark.process
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pixel_format": "rgb24", "scope": "whole", "width": 320, "height": 240, "fps": "25"},
    ],
)
async def test_frames_are_those_of_grpc(fields: dict[str, Any]) -> None:
    async with running_server(slots=2) as server, connect(server.address) as stub, socket(server) as ws:
        avatar = await prepared(server)
        pcm = voice(24_321)
        pcm[8000:12000] = 0
        over_grpc = Conversation(stub)
        known = {"pixel_format": 2, "scope": 2} if fields else {}
        opened = await over_grpc.open(avatar["avatar_id"], **known)
        await over_grpc.say(pcm, loop_index=7)
        wanted, wanted_end = await over_grpc.collect()
        talk = Talk(ws)
        agreed = await talk.open(avatar["avatar_id"], **fields)
        assert agreed.avatar.body_sha256 == opened.avatar.body_sha256
        assert (agreed.window_ms, agreed.closing_frames) == (opened.window_ms, opened.closing_frames)
        assert (agreed.look_ahead_ms, agreed.history_ms) == (opened.look_ahead_ms, opened.history_ms)
        await talk.say(pcm, loop_index=7)
        frames, end = await talk.collect()
        assert (end["frames"], end["late"]) == (wanted_end.frames, wanted_end.late)
        assert len(frames) == len(wanted) > 36
        for mine, theirs in zip(frames, wanted, strict=True):
            assert (mine.turn_id, mine.epoch, mine.sample) == (
                theirs.turn_id,
                theirs.epoch,
                theirs.audio_sample,
            )
            assert (mine.loop_index, mine.last) == (theirs.loop_index, theirs.last)
            assert mine.kind == {1: "mouth", 2: "body"}[theirs.kind]
            assert (mine.pixels or b"") == theirs.pixels
            if mine.rect is not None:
                r = theirs.rect
                assert mine.rect == Rect(r.x, r.y, r.width, r.height)
        kinds = {f.kind for f in frames}
        assert kinds == {"mouth", "body"} and frames[-1].last


@pytest.mark.process
async def test_epochs_interrupts_slots_and_another_body() -> None:
    async with (
        running_server(slots=1) as server,
        socket(server) as first,
        socket(server) as second,
    ):
        avatar = await prepared(server)
        talk, other = Talk(first), Talk(second)
        await talk.open(avatar["avatar_id"], session_id="call-1")
        opened = await other.open(avatar["avatar_id"], body_sha256="00" * 32)
        assert opened.scope == "whole"
        await talk.say(voice(64_000), end=False)
        assert (await talk.wait("turn_accepted"))["turn_id"] == 1
        await other.say(voice(3200))
        assert "speaking slots" in (await other.wait("turn_rejected"))["reason"]
        await talk.send("interrupt", epoch=1)
        assert (await talk.wait("interrupted"))["epoch"] == 1
        await talk.send("playhead", turn_id=1, epoch=0, audio_sample=-1, playing=True)  # stale: nothing
        await talk.say(voice(3_200, seed=2), turn_id=2, epoch=1)
        frames, end = await talk.collect(turn_id=2, epoch=1)
        assert {f.epoch for f in frames} == {1} and end["turn_id"] == 2
        assert await server.event("stream_opened")


OPEN = {"type": "open", "avatar_id": "nobody"}
AUDIO_HEAD = AUDIO.pack(1, 0, 0, 0, 1, 0)


@pytest.mark.process
@pytest.mark.parametrize(
    ("messages", "code", "kind", "words"),
    [
        ([b"\x00\xffnoise"], 4400, "invalid_argument", "before open"),
        (["no json"], 4400, "invalid_argument", "JSON"),
        (['{"type":"open"'], 4400, "invalid_argument", "JSON"),
        (["[" * 5000], 4400, "invalid_argument", ""),
        (["x" * 20_000], 4400, "invalid_argument", "too long"),
        ([{"type": "interrupt", "epoch": 1}], 4400, "invalid_argument", "before open"),
        ([{"type": "open"}], 4400, "invalid_argument", "avatar_id"),
        ([{"type": "nix"}], 4400, "invalid_argument", "type"),
        ([OPEN], 4404, "not_found", "not prepared"),
        ([{**OPEN, "fps": "1/0"}], 4400, "invalid_argument", "fps"),
        ([{**OPEN, "body_sha256": "zz"}], 4400, "invalid_argument", "body_sha256"),
        (["open", {"type": "open", "avatar_id": "x"}], 4400, "invalid_argument", "open already"),
        (["open", {"type": "turn_start", "turn_id": -1, "epoch": 0}], 4400, "invalid_argument", "turn_id"),
        (["open", {"type": "turn_start", "turn_id": 1, "epoch": 1 << 40}], 4400, "invalid_argument", "epoch"),
        (["open", {"type": "turn_start", "turn_id": "1", "epoch": 0}], 4400, "invalid_argument", "turn_id"),
        (["open", b""], 4400, "invalid_argument", "no audio"),
        (["open", b"\x07" * 100], 4400, "invalid_argument", "no audio"),
        (["open", "turn", AUDIO_HEAD + bytes(640_002)], 4400, "invalid_argument", "640000 bytes"),
        (["open", AUDIO_HEAD + b"even"], 4400, "invalid_argument", "never started"),
        (["open", AUDIO.pack(1, 0, 0, 0, 1, 1 << 63) + b"even"], 4400, "invalid_argument", "2**62"),
        (["open", bytes(3_000_000)], 1009, "", ""),
    ],
)
async def test_bad_input_is_answered_and_the_socket_closed(
    noisy: tuple[InferenceServer, str], messages: list[Any], code: int, kind: str, words: str
) -> None:
    server, avatar_id = noisy
    async with socket(server) as ws:
        for message in messages:
            if message == "open":
                message = {"type": "open", "avatar_id": avatar_id}
            elif message == "turn":
                message = {"type": "turn_start", "turn_id": 1, "epoch": 0}
            await ws.send(json.dumps(message) if isinstance(message, dict) else message)
        error, closed, reason = await refusal(ws)
    assert closed == code
    if kind:
        assert error["kind"] == kind and words in error["detail"], error
        assert error["detail"].startswith(reason) and error["status"] in (400, 404)


@pytest.mark.process
async def test_a_client_that_sends_on_learns_why_it_was_closed() -> None:
    """Its bytes wait unread when the reason is sent: a connection closed then would be reset."""
    key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    async with running_server() as server, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        key += f"Authorization: Bearer {FLEET_TOKEN}\r\n"
        writer.write(
            f"GET /v1/converse HTTP/1.1\r\nHost: x\r\n{key}Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\xff" + (3_000_000).to_bytes(8) + bytes(4))
        for _ in range(10):
            writer.write(bytes(100_000))
            await asyncio.sleep(0.05)
        told = await reader.read()
        writer.close()
    assert told[:1] == b"\x88" and int.from_bytes(told[2:4]) == 1009


@pytest.mark.process
async def test_a_message_too_long_while_the_stream_is_being_opened() -> None:
    async with running_server(slots=2) as server:
        avatar = await prepared(server)
        for attempt in range(60):
            async with socket(server) as ws:
                await ws.send(json.dumps({"type": "open", "avatar_id": avatar["avatar_id"]}))
                await asyncio.sleep(attempt % 20 * 0.0002)
                await ws.send(bytes(3_000_000))
                _, code, _ = await refusal(ws)
            assert code == 1009
        assert not [line for line in server.log if line["event"] == "internal_error"]


@pytest.fixture(scope="module")
def noisy_loop() -> Any:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def noisy(noisy_loop: asyncio.AbstractEventLoop) -> Any:
    """One server for all the bad input; a thread keeps its log read."""
    import threading

    async def start() -> tuple[Any, InferenceServer, str]:
        manager = running_server()
        server = await manager.__aenter__()
        return manager, server, (await prepared(server))["avatar_id"]

    thread = threading.Thread(target=noisy_loop.run_forever)
    thread.start()
    try:
        manager, server, avatar_id = asyncio.run_coroutine_threadsafe(start(), noisy_loop).result()
        yield server, avatar_id
        asyncio.run_coroutine_threadsafe(manager.__aexit__(None, None, None), noisy_loop).result()
        assert not [line for line in server.log if line["event"] == "internal_error"]
    finally:
        noisy_loop.call_soon_threadsafe(noisy_loop.stop)
        thread.join()


@pytest.mark.process
async def test_noise_after_a_good_open_ends_that_socket_only() -> None:
    rng = np.random.default_rng(3)
    async with running_server(slots=2) as server, socket(server) as ws:
        avatar = await prepared(server)
        good = Talk(ws)
        await good.open(avatar["avatar_id"])
        for _ in range(60):
            async with socket(server) as bad:
                talk = Talk(bad)
                if rng.random() < 0.8:
                    await talk.open(avatar["avatar_id"])
                noise = rng.bytes(int(rng.integers(1, 400)))
                await bad.send(noise if rng.random() < 0.5 else noise.decode("latin-1"))
                error, code, _ = await refusal(bad)
                assert code == 4400 and error["detail"]
        await good.say(voice(8000))
        frames, _ = await good.collect()
        assert frames[-1].last
        assert not [line for line in server.log if line["event"] == "internal_error"]


@pytest.mark.process
async def test_a_slow_reader_costs_a_bounded_number_of_frames_and_nobody_else() -> None:
    async with running_server(slots=3) as server, socket(server) as quick:
        avatar = await prepared(server)
        ws_options: dict[str, Any] = {"max_queue": 1}
        async with socket(server, **ws_options) as lazy:
            slow = Talk(lazy)
            whole = {"scope": "whole", "pixel_format": "rgb24"}
            await slow.open(avatar["avatar_id"], **whole)
            await slow.say(voice(160_000))
            for head in range(0, 160_000, 640):  # it plays on, and reads nothing
                await slow.send("playhead", turn_id=1, epoch=0, audio_sample=head, playing=True)
                await asyncio.sleep(0.002)
            fast = Talk(quick)
            await fast.open(avatar["avatar_id"])
            await fast.say(voice(16_000))
            frames, _ = await fast.collect()
            assert len(frames) >= 25
            seen = 0
            while True:
                message = await slow.read()
                if isinstance(message, Frame):
                    seen += 1
                elif message["type"] == "turn_finished":
                    break
            assert seen < 200  # of 250: the rest was dropped, not stored


@pytest.mark.process
async def test_sockets_beyond_the_limit_and_pages_of_others_are_refused() -> None:
    async with running_server(http_connections=60, max_sessions=10) as server:
        avatar = await prepared(server)

        async def attempt() -> str:
            try:
                async with socket(server) as ws:
                    await Talk(ws).open(avatar["avatar_id"])
                    await done.wait()
                    return "open"
            except ConnectionClosed as closed:
                assert closed.rcvd is not None and "10 streams" in closed.rcvd.reason
                return str(closed.rcvd.code)
            except (InvalidHandshake, OSError, EOFError) as e:
                return "503" if isinstance(e, InvalidStatus) and e.response.status_code == 503 else "refused"

        done = asyncio.Event()
        tasks = [asyncio.create_task(attempt()) for _ in range(1000)]
        async with asyncio.timeout(PATIENCE_S * 2):
            while sum(t.done() for t in tasks) < 990:
                await asyncio.sleep(0.02)
        done.set()
        outcomes = await asyncio.gather(*tasks)
        assert outcomes.count("open") == 10
        assert outcomes.count("4429") + outcomes.count("503") + outcomes.count("refused") == 990
        assert outcomes.count("503") >= 400
        for origin in ("https://elsewhere.example", "null"):
            async with asyncio.timeout(PATIENCE_S):  # until the crowd has gone
                while (caught := await refused(server, origin)).value.response.status_code == 503:
                    await asyncio.sleep(0.1)
            assert caught.value.response.status_code == 403
            assert json.loads(caught.value.response.body or b"{}")["kind"] == "permission_denied"
        own = f"http://127.0.0.1:{server.http_port}"
        async with asyncio.timeout(PATIENCE_S):
            while not await opens(server, own, avatar["avatar_id"]):
                await asyncio.sleep(0.1)


async def opens(server: Any, origin: str, avatar_id: str) -> bool:
    """Whether a page of this origin gets a stream; not while all connections are taken."""
    try:
        async with socket(server, origin=origin) as ws:
            await Talk(ws).open(avatar_id)
    except InvalidStatus as error:
        assert error.response.status_code == 503
        return False
    return True


async def refused(server: Any, origin: str) -> pytest.ExceptionInfo[InvalidStatus]:
    with pytest.raises(InvalidStatus) as caught:
        async with socket(server, origin=origin):
            pass
    return caught


def test_the_header_is_laid_out_as_documented() -> None:
    assert (AUDIO.size, FRAME.size) == (24, 40)
    about = AUDIO.pack(1, 0, 0, 0x01020304, 0x05060708090A0B0C, 3)
    assert about.hex() == "01000000" + "04030201" + "0c0b0a0908070605" + "0300000000000000"
