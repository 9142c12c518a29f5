"""The rendered manifests as real pods: `podman kube play`, both images, a DNS server for the headless Service."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any, cast

import httpx
import numpy as np
import pytest

from testing.caller import Phone
from testing.nameserver import NameServer
from testing.ports import free_port, free_ports
from tests.peers.docker_engine import engine
from tests.peers.podman import Podman, playable
from tests.support.credentials import API
from tests.support.house import House, tone
from tests.support.manifests import ROOT, render

pytestmark = [pytest.mark.container, pytest.mark.process]

IMAGES = {"visavis/inference:0.1.0": ["--target", "cpu"], "visavis/orchestrator:0.1.0": []}


def build() -> None:
    """Both images by the Docker engine, with the manifests' names."""
    engine()
    for image, target in IMAGES.items():
        file = f"deploy/{image.partition('/')[2].partition(':')[0]}.Dockerfile"
        done = subprocess.run(
            ["docker", "build", "--quiet", "--file", file, *target, "--tag", image, "."],
            cwd=ROOT,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]


async def test_pods_of_the_manifests_take_a_call_and_one_drains() -> None:
    with Podman() as podman:
        await asyncio.to_thread(build)
        for image in IMAGES:
            await asyncio.to_thread(podman.load, image)
        async with NameServer("inference.visavis-inference") as names:
            api_port, sip_port, rtp = free_port(), free_port(), free_ports(64)
            settings = {
                "VISAVIS_API_PORT": api_port,
                "VISAVIS_SIP_PORT": sip_port,
                "VISAVIS_RTP_PORT_MIN": rtp,
                "VISAVIS_RTP_PORT_MAX": rtp + 63,
                "VISAVIS_AVATAR_NAMESERVER": names.address,  # in place of the cluster's DNS
            }
            toml = '[orchestrator]\ngreeting = ""\n'
            given = {key: str(value) for key, value in settings.items()}
            await asyncio.to_thread(podman.play, playable(render("cpu"), given, "127.0.0.1", toml))
            pods = {podman.address(one): one for one in podman.containers("visavis/inference:0.1.0")}
            assert len(pods) == 2
            names.addresses = set(pods)
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{api_port}", timeout=60, headers=API
            ) as api:
                house = House(cast(Any, None), sip_port, api)
                await ready(api, podman)
                await call(house, podman, pods)


async def ready(api: httpx.AsyncClient, podman: Podman, within_s: float = 120.0) -> None:
    """Until calls get a talking face."""
    missing = "the API does not answer"
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    answer = await api.get("/v1/status")
                except httpx.TransportError:
                    await asyncio.sleep(0.2)
                    continue
                missing = answer.text
                if answer.json()["talking_face"]:
                    return
                await asyncio.sleep(0.2)
    except TimeoutError:
        said = [podman.logs(one)[-1500:] for image in IMAGES for one in podman.containers(image)]
        raise AssertionError(f"{missing}; {said}") from None


async def call(house: House, podman: Podman, pods: dict[str, dict[str, Any]]) -> None:
    """A turn is spoken; the pod that draws it is told to go in the middle."""
    async with Phone(house.uri) as phone:
        call_id = await house.call_id()
        await asyncio.sleep(4.0)  # the avatar is copied to the other pod
        turn = await house.play(call_id, [(0.0, tone(12.0))])
        await asyncio.sleep(2.0)
        (serving,) = [a for a, one in pods.items() if '"stream_opened"' in podman.logs(one)]
        await asyncio.to_thread(podman.run, "stop", "--time", "60", pods[serving]["Id"])
        ended = await house.turn(call_id, turn)
        assert ended["state"] == "finished" and ended["heard_ms"] > 11_990
        await asyncio.sleep(0.3)
    assert phone.recording.audio.lost == 0
    loud = np.abs(phone.recording.samples().astype(np.int32)) > 500
    assert loud.any()
    assert len(phone.recording.frames()) > 100
    log = podman.logs(pods[serving])
    assert '"draining"' in log and '"stopped"' in log
    (other,) = set(pods) - {serving}
    assert '"stream_opened"' in podman.logs(pods[other])
    shown = (await house.call(call_id))["media"]["frames_shown"]
    assert shown > 200, shown  # of 300; a loaded machine skips some
