"""A phone on another machine: a network namespace that reaches one address of this host and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from testing.caller import Phone
from testing.caller.media import MediaSockets
from tests.peers.docker_engine import ROOT


@dataclass(frozen=True)
class Outside:
    """``host`` is the address of this machine as seen from there, ``phone`` the address of the phone."""

    namespace: str
    host: str
    phone: str

    def call(self, port: int, seconds: float, digits: str) -> dict[str, object]:
        """One call from there; what the phone saw and heard."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, sys.executable, "-m", "tests.peers.docker_outside",
             f"sip:demo@{self.host}:{port}", "--local", self.phone, "--seconds", str(seconds), "--digits", digits],
            capture_output=True, text=True, timeout=seconds + 120, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return report


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    """Such a namespace; skips where one cannot be made."""
    if os.getuid() != 0 or shutil.which("ip") is None:
        pytest.skip("NO CALL FROM ANOTHER NETWORK WAS TESTED: a network namespace takes root and iproute2")
    tag = secrets.token_hex(3)
    net, ours, theirs = f"vv{tag}", f"vvh{tag}", f"vvp{tag}"
    base = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}"
    host, phone = f"{base}.1", f"{base}.2"

    def ip(*words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"

    ip("netns", "add", net)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", net)
        ip("address", "add", f"{host}/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", net, "address", "add", f"{phone}/30", "dev", theirs)
        ip("-n", net, "link", "set", theirs, "up")
        ip("-n", net, "link", "set", "lo", "up")
        yield Outside(net, host, phone)
    finally:
        subprocess.run(["ip", "link", "delete", ours], capture_output=True, check=False)
        ip("netns", "delete", net)


async def _call(options: argparse.Namespace) -> dict[str, object]:
    answers: list[str] = []
    connect = MediaSockets.connect

    def note(self: MediaSockets, answer: str) -> None:
        answers.append(answer)
        connect(self, answer)

    MediaSockets.connect = note  # type: ignore[method-assign]
    async with Phone(options.uri, local=options.local) as phone:
        await asyncio.sleep(options.seconds / 2)
        for digit in options.digits:
            phone.press(digit)
            await asyncio.sleep(0.4)
        await phone.request_keyframe()
        await asyncio.sleep(options.seconds / 2)
    recording = phone.recording
    return {
        "addresses": sorted({line[9:] for line in answers[0].splitlines() if line.startswith("c=IN IP4 ")}),
        "audio_packets": len(recording.audio.packets),
        "audio_lost": recording.audio.lost,
        "loudest": int(np.abs(recording.samples().astype(np.int32)).max(initial=0)),
        "frames": len(recording.frames()),
        "sender_reports": len(recording.audio.reports),
    }


def main() -> None:
    """The phone's own process, inside the namespace."""
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--local", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--digits", required=True)
    print(json.dumps(asyncio.run(_call(parser.parse_args()))))


if __name__ == "__main__":
    main()
