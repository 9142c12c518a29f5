"""A first start with an engine that loads for minutes, a changed setting, upgrade and rollback under a call."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.test_call import assert_voice_goes_on
from tests.peers.docker_project import Project, project, wait_until
from tests.support.house import tone
from tests.support.recordings import gaps, lips

pytestmark = [pytest.mark.container, pytest.mark.process]

ROOT = Path(__file__).resolve().parents[2]
LOAD_S = 150


def documented() -> list[str]:
    """The commands of docs/deploy.md that say that they are run here."""
    here = Path(__file__).relative_to(ROOT).as_posix()
    text = (ROOT / "docs/deploy.md").read_text()
    return re.findall(
        rf"<!-- run by: {re.escape(here)} -->\n```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )


@pytest.fixture(scope="module")
def stack() -> Iterator[Project]:
    """Both services, up."""
    with project() as made:
        made.compose("build", timeout=900)
        made.up()
        yield made


def identities(stack: Project) -> dict[str, str]:
    """Which container each service is, and since when it runs."""
    found = {}
    for service in ("orchestrator", "inference"):
        (one,) = [c for c in stack.containers(service) if c.status == "running"]
        found[service] = f"{one.id} {one.attrs['State']['StartedAt']}"
    return found


@pytest.mark.slow
def test_a_first_start_with_an_engine_that_loads_for_minutes() -> None:
    with project(VISAVIS_INFERENCE_ENGINE_SETTINGS=f"load_ms={1000 * LOAD_S}") as stack:
        stack.compose("build", timeout=900)
        begun = time.monotonic()
        stack.compose("up", "--detach", "--wait")
        waited = time.monotonic() - begun
        status = stack.status()
        assert waited < LOAD_S - 20 and status["takes_calls"] and not status["talking_face"]
        assert [server["state"] for server in status["servers"]] == ["not ready"]
        wait_until(
            "its reason", lambda: any("the engine is loading" in s for s in stack.status()["missing"]), 30
        )
        wait_until("a talking face", lambda: stack.status()["talking_face"], LOAD_S + 60)
        print(f"up after {waited:.1f} s, a talking face after {time.monotonic() - begun:.1f} s")
        assert [c.attrs["RestartCount"] for c in stack.containers("inference")] == [0]


def test_a_changed_setting_restarts_only_what_it_concerns(stack: Project) -> None:
    before = identities(stack)
    stack.set(VISAVIS_INFERENCE_SLOTS=3)
    stack.up()
    after = identities(stack)
    assert after["orchestrator"] == before["orchestrator"] and after["inference"] != before["inference"]
    assert stack.status()["servers"][0]["speaking_slots"] == 3
    stack.set(VISAVIS_MAX_CALLS=7)
    stack.up()
    last = identities(stack)
    assert last["inference"] == after["inference"] and last["orchestrator"] != after["orchestrator"]


def test_a_name_that_is_no_setting_is_refused_before_anything_is_touched(stack: Project) -> None:
    before = identities(stack)
    stack.set(VISAVIS_MAX_CALL=8, VISAVIS_INFERENCE_SLOT=2)
    try:
        done = stack.compose("up", "--detach", "--wait", check=False)
        assert done.returncode != 0 and "names" in done.stderr, done.stderr
        said = stack.container("names").attrs["State"]["Health"]["Log"][-1]["Output"]
        assert "VISAVIS_MAX_CALL is not a setting; is VISAVIS_MAX_CALLS meant?" in said
        assert "VISAVIS_INFERENCE_SLOT is not a setting" in said
        assert identities(stack) == before
    finally:
        stack.set(VISAVIS_MAX_CALL=None, VISAVIS_INFERENCE_SLOT=None)


def test_a_folder_of_certificates_that_is_not_there() -> None:
    with project(DEPLOY_TLS="/nowhere/tls") as stack:
        done = stack.compose("up", "--detach", "--wait", check=False)
        assert done.returncode != 0 and "/nowhere/tls" in done.stderr
        assert not Path("/nowhere").exists()


async def test_upgrade_and_back_under_a_call(stack: Project) -> None:
    upgrade, orchestrator, back = documented()

    async def run(block: str) -> None:
        env = os.environ | stack.environment()
        block = block.replace("127.0.0.1:8080", f"127.0.0.1:{stack.api_port}")
        words = ["bash", "-euo", "pipefail", "-c", block]
        done = await asyncio.to_thread(
            subprocess.run, words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def versions() -> dict[str, str]:
        running = {
            s: [c for c in stack.containers(s) if c.status == "running"]
            for s in ("orchestrator", "inference")
        }
        return {service: each[0].image.tags[0].rpartition(":")[2] for service, each in running.items()
                if len(each) == 1}  # fmt: skip

    before = identities(stack)
    async with stack.house() as house, stack.phone() as phone:
        call = await house.call_id()
        turn = await house.play(call, [(0.0, tone(90.0))])
        await asyncio.sleep(3.0)
        begun = time.monotonic()
        await run(upgrade)
        took = time.monotonic() - begun
        assert (await house.turn(call, turn))["state"] == "finished"
        await asyncio.sleep(0.3)
    assert took < 80, took  # all of it under the turn
    assert versions() == {"orchestrator": "0.1.0", "inference": "0.2.0"}
    assert identities(stack)["orchestrator"] == before["orchestrator"]
    assert_voice_goes_on(phone.recording, 90.0)
    shown = lips(phone.recording)
    away = [gap for gap in gaps(shown, 0.2) if gap[0] > shown[0] + 2.0]
    print(f"upgraded in {took:.1f} s: lips away {[round(seconds, 2) for _, seconds in away]} s")
    assert sum(seconds for _, seconds in away) <= 2.0, away
    await run("export DEPLOY_VERSION=0.2.0\n" + orchestrator)
    assert versions() == {"orchestrator": "0.2.0", "inference": "0.2.0"}
    await stack.ready()
    await run(back)
    assert versions() == {"orchestrator": "0.1.0", "inference": "0.1.0"}
    await stack.ready()
    async with stack.house() as house, stack.phone() as phone:
        turn = await house.play(await house.call_id(), [(0.0, tone(2.0))])
        assert (await house.turn(await house.call_id(), turn))["state"] == "finished"
