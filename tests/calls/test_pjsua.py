"""pjsua, a third independent stack: voice calls both ways, what each hears of the other, keys, its RTCP."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from testing.ports import free_port
from tests.calls.test_baresip import dominant
from tests.peers.peers import absent
from tests.support.house import ROOT, House, orchestrator, tone

pytestmark = [pytest.mark.peer, pytest.mark.process]


@dataclass
class Pjsua:
    """A running pjsua and what it told so far."""

    process: asyncio.subprocess.Process
    port: int
    told: list[dict[str, Any]] = field(default_factory=list)

    async def wait(self, event: str, within_s: float = 20.0, **like: object) -> dict[str, Any]:
        """Until it tells this event with these values."""
        for _ in range(int(within_s / 0.05)):
            for seen in self.told:
                if seen["event"] == event and like.items() <= seen.items():
                    return seen
            await asyncio.sleep(0.05)
        raise AssertionError(f"no {event} {like} from pjsua, only {self.told[-20:]}")

    def say(self, command: str) -> None:
        """`hangup`, or `press 5`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    async def follow(self) -> None:
        """Read what it tells until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # its own log
                self.told.append(json.loads(line))


@contextlib.asynccontextmanager
async def pjsua(folder: Path, codec: str, *uri: str) -> AsyncIterator[Pjsua]:
    """A phone that calls ``uri``, or answers; it knows one codec."""
    if importlib.util.find_spec("pjsua2") is None:
        absent("pjsua", "pip install pjsua2-python (a wheel for Linux)")
    folder.mkdir()
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "tests/peers/pjsua_phone.py"), str(folder), str(port), codec, *uri),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    phone = Pjsua(process, port)
    follower = asyncio.create_task(phone.follow())
    try:
        await phone.wait("ready")
        yield phone
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await follower


async def talk(house: House, phone: Pjsua, codec: str, folder: Path) -> dict[str, Any]:
    """A tone each way and a key each way; returns the record after the phone has hung up."""
    assert (await phone.wait("media"))["codec"] == codec
    call = await house.call_id()
    view = await house.call(call)
    assert (view["audio"].split("/")[0], view["video"]) == (codec, None)
    turn = await house.play(call, [(0.0, tone(2.0, 620.0))])
    assert (await house.turn(call, turn))["state"] == "finished"
    await house.api.post(f"/v1/calls/{call}/dtmf", json={"digits": "4"})
    assert (await phone.wait("digit"))["digit"] == "4"
    async with house.events() as heard, asyncio.timeout(10):
        phone.say("press 8")
        while not any(event["event"] == "dtmf" and event["digit"] == "8" for event in heard):
            await asyncio.sleep(0.05)
    phone.say("hangup")
    figures = await phone.wait("figures")
    await phone.wait("state", state="DISCONNECTED")
    await asyncio.wait_for(phone.process.wait(), 10)
    assert dominant(folder / "heard.wav") == pytest.approx(620, abs=8)
    assert figures["received"] > 80
    async with asyncio.timeout(10):
        while not (records := (await house.api.get("/v1/records")).json()):
            await asyncio.sleep(0.05)
    record: dict[str, Any] = records[0]
    assert (record["cause"], record["call_id"]) == ("bye by peer", call)
    assert record["media"]["audio"]["received_packets"] > 80
    return record


@pytest.mark.parametrize(("suffix", "codec"), [("", "PCMU"), (";transport=tcp", "G722")])
async def test_pjsua_calls(tmp_path: Path, suffix: str, codec: str) -> None:
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False) as house:
        await house.answering()
        async with pjsua(tmp_path / "pj", codec, house.uri + suffix) as phone:
            record = await talk(house, phone, codec, tmp_path / "pj")
        assert record["direction"] == "in"


@pytest.mark.parametrize("codec", ["PCMA", "G722"])
async def test_we_call_pjsua(tmp_path: Path, codec: str) -> None:
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False) as house:
        await house.answering()
        async with pjsua(tmp_path / "pj", codec) as phone:
            to = f"sip:bob@127.0.0.1:{phone.port}"
            await house.api.post("/v1/calls", json={"to": to, "video": False})
            record = await talk(house, phone, codec, tmp_path / "pj")
        assert record["direction"] == "out"
