"""`docker compose up` with a real engine: images, a call from another machine, the demo, kills, cuts, the end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from testing.caller.recording import Recording
from tests.peers.docker_outside import outside
from tests.peers.docker_project import Project, project, wait_until
from tests.support.house import tone
from tests.support.recordings import gaps, lips

pytestmark = [pytest.mark.container, pytest.mark.process]

MOST_BYTES = 500_000_000
MOST_SKIPPED_S = 0.5
GREETING = "Good morning. This is the avatar on the phone."


@pytest.fixture(scope="module")
def stack() -> Iterator[Project]:
    """Both services from nothing: built, up and healthy."""
    with project(VISAVIS_GREETING=GREETING) as made:
        begun = time.monotonic()
        made.compose("--profile", "demo", "build", timeout=900)
        built = time.monotonic()
        made.up()
        print(f"built in {built - begun:.1f} s, healthy {time.monotonic() - built:.1f} s later")
        yield made


def assert_voice_goes_on(recording: Recording, seconds: float) -> None:
    """No packet lost and the turn heard; a machine that others keep busy may skip a few of its ticks."""
    assert recording.audio.lost == 0
    steps = np.diff([packet.timestamp for packet in recording.audio.ordered()])
    skipped = float((steps - 160).sum()) / 8000
    if skipped:
        print(f"the media clock skipped {skipped:.2f} s")
    assert skipped <= MOST_SKIPPED_S
    samples = np.abs(recording.samples().astype(np.int32))
    loud = samples[: len(samples) // 160 * 160].reshape(-1, 160).max(axis=1) > 500
    assert loud.sum() * 0.02 >= seconds - skipped - 0.05


def image_of(stack: Project, service: str) -> str:
    return str(stack.container(service).image.id)


def test_images_are_small_and_keep_no_secret(stack: Project) -> None:
    for service in ("orchestrator", "inference"):
        image = stack.engine.images.get(image_of(stack, service))
        print(f"{service}: {image.attrs['Size'] / 1e6:.0f} MB")
        assert image.attrs["Size"] <= MOST_BYTES
        assert image.attrs["Config"]["User"] == "10001:10001"
        assert image.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        history = "\n".join(layer["CreatedBy"] for layer in image.history())
        assert not re.search(r"(?i)password|token|secret|api_key", history)
        variables = [line.partition("=")[0] for line in image.attrs["Config"]["Env"]]
        assert not re.search(r"(?i)password|token|secret|key", " ".join(variables))


def test_nothing_runs_as_root_or_with_a_capability(stack: Project) -> None:
    for container in stack.containers():
        for process in container.top(ps_args="-o pid")["Processes"]:
            status = Path(f"/proc/{process[0]}/status").read_text()
            assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE), container.name
            assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), container.name
            assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE), container.name
        written = container.exec_run(["python", "-c", "open('/opt/visavis/here', 'w')"])
        assert written.exit_code == 1 and b"Read-only file system" in written.output, container.name


def check_call_from_outside(stack: Project, host: str, report: dict[str, object]) -> None:
    """What a call from another machine must show, on both sides of it."""
    assert report["addresses"] == [host]  # of c= in the SDP, not one of a container
    assert int(str(report["audio_packets"])) > 250 and report["audio_lost"] == 0
    assert int(str(report["loudest"])) > 1000  # it speaks
    assert int(str(report["frames"])) > 100  # and is seen
    assert int(str(report["sender_reports"])) > 0
    assert_media_arrived(stack, sent=300)
    assert stack.metric("visavis_dtmf_total") == 2


def assert_media_arrived(stack: Project, sent: int) -> None:
    """The phone's own RTP and RTCP reached the orchestrator."""
    call = stack.get("/v1/calls")[-1]
    media = call["media"]
    assert media["audio"]["received_packets"] >= 0.9 * sent, media["audio"]
    assert media["audio"]["peer_lost"] is not None, "no receiver report came"
    assert media["keyframe_requests"] >= 1, "no RTCP came to the video port"


def test_a_call_from_another_machine(stack: Project) -> None:
    with outside() as there:
        check_call_from_outside(stack, there.host, there.call(stack.sip_port, 7.0, "5#"))


def test_the_demo_leaves_its_recording(stack: Project) -> None:
    done = stack.compose("--profile", "demo", "run", "--rm", "demo", "--text", "One sentence.", timeout=180)
    assert "seen by the phone" in done.stdout, done.stdout + done.stderr
    assert (stack.out / "demo.mp4").stat().st_size > 20_000
    assert (stack.out / "demo.png").stat().st_size > 5_000


async def test_inference_killed_in_mid_sentence(stack: Project) -> None:
    container = stack.container("inference")
    restarts = container.attrs["RestartCount"]
    async with stack.house() as house:
        async with stack.phone() as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.0, tone(20.0))])
            await asyncio.sleep(8.0)  # the greeting, then the turn
            os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
            assert (await house.turn(call, turn))["heard_ms"] > 19_990
            await asyncio.sleep(0.3)
        await stack.ready()
    assert_voice_goes_on(phone.recording, 20.0)
    shown = lips(phone.recording)
    away = [gap for gap in gaps(shown, 0.2) if gap[0] > shown[0] + 6.0]  # not those of the greeting
    print(f"killed: lips away {[round(seconds, 1) for _, seconds in away]} s")
    assert len(away) == 1, away
    assert shown[-1] > sum(away[-1]) + 0.5  # they returned in mid-sentence
    assert stack.container("inference").attrs["RestartCount"] == restarts + 1


async def test_network_cut_and_restored(stack: Project) -> None:
    container, network = stack.container("inference"), stack.network()
    async with stack.house() as house:
        async with stack.phone() as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.0, tone(25.0))])
            await asyncio.sleep(8.0)
            await asyncio.to_thread(network.disconnect, container)
            await asyncio.sleep(3.0)
            await asyncio.to_thread(network.connect, container, aliases=["inference"])
            assert (await house.turn(call, turn))["heard_ms"] > 24_990
            await asyncio.sleep(0.3)
        await stack.ready()
    assert_voice_goes_on(phone.recording, 25.0)
    shown = lips(phone.recording)
    away = gaps(shown, 1.0)
    print(f"cut for 3 s: lips away {[round(seconds, 1) for _, seconds in away]} s")
    assert away and shown[-1] > sum(away[-1]) + 0.5


async def test_the_other_replica_takes_over(stack: Project) -> None:
    stack.up("--scale", "inference=2", "--no-recreate")
    wait_until("two servers", lambda: [s["state"] for s in stack.status()["servers"]] == ["ready"] * 2)
    async with stack.house() as house, stack.phone() as phone:
        call = await house.call_id()
        turn = await house.play(call, [(0.0, tone(16.0))])
        await asyncio.sleep(10.0)  # the avatar is made ready on the second one meanwhile
        containers = {c.attrs["NetworkSettings"]["Networks"][f"{stack.name}_avatar"]["IPAddress"]: c
                      for c in stack.containers("inference")}  # fmt: skip
        assert len(containers) == 2
        serving = re.findall(r'"connected", "reason": "([0-9.]+):50051"', stack.logs("orchestrator"))[-1]
        os.kill(containers[serving].attrs["State"]["Pid"], signal.SIGKILL)
        assert (await house.turn(call, turn))["state"] == "finished"
        await asyncio.sleep(0.3)
    assert_voice_goes_on(phone.recording, 16.0)
    shown = lips(phone.recording)
    after = [gap for gap in gaps(shown, 0.1) if gap[0] > 8.0]
    print(f"one of two killed: lips away {[round(seconds, 2) for _, seconds in after]} s")
    assert sum(seconds for _, seconds in after) <= 2.0, after
    assert shown[-1] > 18.0


async def test_the_orchestrator_stops_in_its_grace_period(stack: Project) -> None:
    container = stack.container("orchestrator")
    grace = container.attrs["Config"]["StopTimeout"]
    async with stack.house() as house, stack.phone() as one, stack.phone() as two:
        await house.call_id()
        await asyncio.sleep(1.0)
        begun = time.monotonic()
        await asyncio.to_thread(stack.compose, "stop", "orchestrator")
        took = time.monotonic() - begun
        async with asyncio.timeout(5):
            await one.hung_up.wait()
            await two.hung_up.wait()
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    assert took < grace, took
    assert not container.attrs["State"]["OOMKilled"]


def test_down_leaves_nothing(stack: Project) -> None:
    stack.compose("--profile", "demo", "down", "--volumes")
    assert stack.left() == {"containers": [], "networks": [], "volumes": []}
    wait_until("ports closed", lambda: stack.name not in str(stack.engine.networks.list()))
