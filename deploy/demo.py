"""A phone in a container: calls the orchestrator, lets it speak, and writes what it received to ``/out``.

``docker compose --profile demo run --rm demo`` leaves ``demo.mp4`` (decoded from the received RTP, aligned by
RTCP) and ``demo.png`` there. ``DEMO_SIP`` and ``DEMO_API`` say where the orchestrator is, ``DEMO_TOKENS`` where
the API's tokens lie.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from pathlib import Path

import httpx

from examples.demo import TEXT, DemoFailed, Progress, converse, wait_ready
from examples.dialogue import callers_words, hold_dialogue, talk_with
from testing.caller import CallFailed, Phone
from testing.caller.movie import contact_sheet, report, write_movie
from testing.caller.recording import CLOCK_RATES
from visavis.service.security import read_token


def route_to(sip: str) -> tuple[str, str]:
    """``host:port`` with the host as an address, and the address of this end on the way there."""
    host, _, port = sip.rpartition(":")
    try:
        address = str(socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_DGRAM)[0][4][0])
    except (OSError, ValueError) as error:
        raise DemoFailed(f"DEMO_SIP={sip!r} cannot be called: {error}") from None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, int(port)))
        return f"{address}:{port}", str(probe.getsockname()[0])


async def demo(options: argparse.Namespace) -> None:
    """The whole call."""
    progress = Progress()
    sip, local = route_to(options.sip)
    who = {"Authorization": f"Bearer {read_token(options.tokens).reveal()}"}
    async with httpx.AsyncClient(base_url=options.api, timeout=30, headers=who) as api:
        await wait_ready(api, {}, progress, options.out)
        words = await callers_words(CLOCK_RATES["opus"])
        progress.say("dialling")
        async with Phone(f"sip:{options.user}@{sip}", local=local, codec="opus") as phone:
            call = await converse(api, phone, options.text, options.language, progress)
            progress.say("a caller asks, and interrupts")
            await talk_with(api, call["call_id"], "scripted")
            said = await hold_dialogue(api, phone, call["call_id"], words)
    progress.say("writing what the phone received")
    frames = phone.recording.frames()
    if not frames:
        raise DemoFailed("the phone received no picture that decodes")
    write_movie(phone.recording, frames, options.out / "demo.mp4")
    contact_sheet(phone.recording, frames, options.out / "demo.png")
    progress.end()
    print("\n".join(said))
    print("\n".join(report(phone.recording, frames, options.fps).lines()))
    print("seen by the phone: demo.mp4 and demo.png in ./out")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="demo", description="One call to a running Visavis.")
    environ = os.environ
    parser.add_argument("--sip", default=environ.get("DEMO_SIP", "127.0.0.1:5060"), help="host:port of SIP")
    parser.add_argument(
        "--api", default=environ.get("DEMO_API", "http://127.0.0.1:8080"), help="URL of the API"
    )
    parser.add_argument(
        "--tokens", type=Path, default=Path(environ.get("DEMO_TOKENS", "tokens")), help="the API's token file"
    )
    parser.add_argument("--user", default="demo", help="user part that is dialled: the avatar's name")
    parser.add_argument("--text", default=TEXT, help="what is said")
    parser.add_argument("--language", default="en", help="en, de, fr, es, cmn...")
    parser.add_argument("--fps", type=int, default=25, help="frames per second that the orchestrator sends")
    parser.add_argument("--out", type=Path, default=Path("/out"), help="folder for what was received")
    options = parser.parse_args()
    if not os.access(options.out, os.W_OK):
        raise SystemExit(
            f"demo: user {os.getuid()} cannot write to ./out: make it (mkdir -p out) and name its owner with "
            "DEPLOY_UID=$(id -u) DEPLOY_GID=$(id -g)"
        )
    try:
        asyncio.run(demo(options))
    except (DemoFailed, CallFailed, httpx.HTTPError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
