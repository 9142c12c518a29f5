"""Secrets that were seeded into a running pair are found in no log, command line, metric, trace or answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import httpx
import pytest

from testing.caller import Phone
from testing.ports import free_port
from tests.support.house import House, orchestrator
from tests.support.servers import InferenceServer, running_server
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1 import avatar_pb2_grpc

pytestmark = [pytest.mark.process, pytest.mark.slow]

API, FLEET = "visavis_seeded-token-of-the-api", "visavis_seeded-token-of-the-fleet"


def command_lines(pid: int) -> str:
    """What ``ps`` shows of a process and those below it."""
    lines = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            lines += "\n" + command_lines(int(child))
    return lines


async def provoke(house: House, server: InferenceServer) -> list[str]:
    """Everything that handles a secret, rightly and wrongly; returns what was answered."""
    said = []
    face = f"http://127.0.0.1:{server.http_port}"
    async with httpx.AsyncClient() as http:
        for base in (str(house.api.base_url), face):
            for headers in (
                {},
                {"Authorization": "Bearer visavis_seeded-guess-of-somebody"},
                {"Authorization": "Basic c2VlZGVkOnNlZWRlZC1ndWVzcw=="},  # seeded:seeded-guess
                {"Authorization": f"Bearer {API}", "Origin": "http://evil.example"},
                {"Authorization": f"Bearer {FLEET}", "Host": "evil.example"},
            ):
                for path in ("/v1/calls", "/v1/capacity", "/metrics", "/nothing", "/openapi.json"):
                    said.append((await http.get(base.rstrip("/") + path, headers=headers)).text)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = avatar_pb2_grpc.AvatarServiceStub(channel)
        for token in ("visavis_seeded-guess-of-somebody", FLEET):
            metadata = [("authorization", f"Bearer {token}")]
            try:
                answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=metadata)
                said.append(str(answer))
            except grpc.aio.AioRpcError as error:
                said.append(str(error.details()))
    assert (await house.api.put("/v1/traces", json={"calls": 1})).status_code == 204
    async with Phone(house.uri) as phone:
        call = await house.call_id()
        await house.api.post(f"/v1/calls/{call}/say", json={"text": "Hello."})
        await asyncio.sleep(1.0)
        said.append((await house.api.get(f"/v1/calls/{call}/trace")).text)
        assert "INVITE" in said[-1]
    assert phone.recording.audio.received
    await asyncio.sleep(1.0)
    for path in ("/v1/calls", "/v1/status", "/metrics", "/v1/avatars"):
        said.append((await house.api.get(path)).raise_for_status().text)
    for path in ("/v1/records", "/v1/recordings"):  # of a database that is away
        answer = await house.api.get(path)
        assert answer.status_code == 503 and "the database does not do it" in answer.text
        said.append(answer.text)
    async with asyncio.timeout(30):
        while not any(entry["event"] == "recording_not_moved" for entry in house.log):
            await asyncio.sleep(0.1)
    return said


async def test_no_secret_is_told(tmp_path: Path) -> None:
    fleet, api, config = tmp_path / "fleet", tmp_path / "api", tmp_path / "visavis.toml"
    fleet.write_text(f"{FLEET} * fleet\nvisavis_seeded-but-wrong fly\n")
    api.write_text(f"{API} * operator\nseeded\n")
    config.write_text(
        "[orchestrator]\n"
        f'sip_accounts = [{{uri = "sip:us@127.0.0.1:{free_port()}", password = "seeded-password-of-a-trunk"}}]\n'
        f'webhook = "http://user:seeded-password@127.0.0.1:{free_port()}/hook?token=seeded-token"\n'
        'webhook_secret = "seeded-secret-of-the-webhook"\n'
        f'database = "postgresql://us:seeded-password@127.0.0.1:{free_port()}/records"\n'
        f'recordings_s3 = "s3://calls"\nrecordings_s3_endpoint = "http://127.0.0.1:{free_port()}"\n'
        'recordings_s3_key_id = "us"\nrecordings_s3_secret = "seeded-secret-of-the-store"\n'
        'recording = "every"\n'
    )
    async with (
        running_server(tokens=fleet, slots=2) as server,
        orchestrator(server.address, config=config, api_tokens=api, avatar_tokens=fleet, wait=False) as house,
    ):
        house.api.headers["Authorization"] = f"Bearer {API}"
        await house.ready()
        answers = await provoke(house, server)
        lines = command_lines(house.process.pid) + command_lines(server.pid)
        logs = [json.dumps(entry) for entry in [*house.log, *server.log]]
    assert "inference_server" in lines and "orchestrator" in lines
    assert any("webhook_failed" in entry for entry in logs) and any(
        "token_ignored" in entry for entry in logs
    )
    for what in (*answers, lines, *logs):
        assert "seeded" not in what and "c2VlZGVk" not in what
