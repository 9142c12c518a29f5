"""One whole call on this machine: both services, a phone that dials in, a sentence, and what the phone received.

Leaves ``out/demo.mp4`` (decoded from the received RTP, aligned by RTCP) and ``out/demo.png`` (a contact sheet
with the waveform). Run it as ``make demo``, with a person's own picture and words as
``make demo IMAGE=photo.jpg TEXT="..." SIZE=640x480 FPS=25``, with another of the built-in faces as
``make demo AVATAR=name``.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules load ends it without a trace

import argparse
import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import httpx

from examples.dialogue import callers_words, hold_dialogue
from examples.services import ENDS, Readiness, end, start
from testing.caller import CallFailed, Phone
from testing.caller.movie import contact_sheet, report, write_movie
from testing.caller.recording import CLOCK_RATES
from testing.ports import free_port
from visavis.portraits import CAST
from visavis.service.security import make_token_file, read_token

TEXT = (
    "Hello! I am Visavis, a face for voice calls. "
    "You hear my voice over an ordinary phone call, and my lips follow every word."
)
FILM, SHEET = "demo.mp4", "demo.png"
FILM_BYTES = 16_000_000
SCRATCH_BYTES = 250_000_000
"""Room for a body loop twice (server and client), coded loops and logs at the default size, and some to spare."""
START_S = 120.0
LISTEN_S = 1.5


class DemoFailed(Exception):
    """One sentence for the person who ran it."""


class Progress:
    """A line that says what is going on, rewritten in place on a terminal."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._last = ""

    def say(self, text: str) -> None:
        """Show a step."""
        seconds = f"[{time.monotonic() - self._begun:5.1f} s]"
        if sys.stderr.isatty():
            print(f"\r\033[K{seconds} {text}", end="", file=sys.stderr, flush=True)
        elif text != self._last:
            print(f"{seconds} {text}", file=sys.stderr, flush=True)
        self._last = text

    def end(self) -> None:
        """Leave the line."""
        if sys.stderr.isatty():
            print(file=sys.stderr)


@contextlib.asynccontextmanager
async def service(module: str, log: Path, **settings: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """One of the two processes, stopped at the end; its log goes to a file."""
    prefix = "VISAVIS_INFERENCE_" if module == "inference_server" else "VISAVIS_"
    environment = os.environ | {prefix + name.upper(): str(value) for name, value in settings.items()}
    with log.open("wb") as sink:
        process = await start(module, environment, sink)
    try:
        yield process
    finally:
        await end(process)


def check_room(out: Path) -> None:
    """Open what is written at the end, and look for room. Raises :class:`DemoFailed`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (FILM, SHEET):
            (out / name).open("ab").close()
    except OSError as error:
        raise DemoFailed(
            f"{error.filename} cannot be written ({error.strerror}): name another --out"
        ) from None
    for folder, least in ((out, FILM_BYTES), (Path(tempfile.gettempdir()), SCRATCH_BYTES)):
        if shutil.disk_usage(folder).free < least:
            raise DemoFailed(
                f"{folder} has less than {least // 10**6} MB left: make room, or name another folder (--out for "
                "the film, TMPDIR for what is made on the way)"
            )


async def wait_ready(
    api: httpx.AsyncClient, processes: dict[str, asyncio.subprocess.Process], progress: Progress, folder: Path
) -> None:
    """Until calls get a talking face. Raises :class:`DemoFailed` with what is missing."""
    deadline = time.monotonic() + START_S
    readiness = Readiness(api)
    missing: list[str] = []
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.returncode is not None:
                lines = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
                raise DemoFailed(f"{name} ended: {lines[-1] if lines else 'it said nothing'}")
        missing = await readiness.missing()
        if not missing:
            return
        if refused := [sentence for sentence in missing if sentence.startswith("avatar refused")]:
            raise DemoFailed(refused[0])
        progress.say("; ".join(missing))
        await asyncio.sleep(0.1)
    raise DemoFailed(f"not ready after {START_S:.0f} s: {'; '.join(missing)}")


async def converse(api: httpx.AsyncClient, phone: Phone, text: str, language: str, progress: Progress) -> Any:
    """Idle, the sentence, idle; returns the call as the API shows it."""
    progress.say("the phone sees the face; it listens")
    await asyncio.sleep(LISTEN_S)
    call_id = (await api.get("/v1/calls")).raise_for_status().json()[-1]["call_id"]
    answer = await api.post(f"/v1/calls/{call_id}/say", json={"text": text, "language": language})
    if answer.status_code != 202:
        raise DemoFailed(answer.json()["detail"])
    turn = answer.json()["turn_id"]
    while True:
        call = (await api.get(f"/v1/calls/{call_id}")).json()
        said = next(said for said in call["turns"] if said["turn_id"] == turn)
        state = said["state"]
        if state == "finished":
            break
        if state == "failed":
            raise DemoFailed(f"it could not speak: {said['reason']}")
        if phone.hung_up.is_set() or state == "interrupted":
            raise DemoFailed(f"the call ended early: {call['cause']}")
        progress.say("it speaks" if state == "speaking" else "it begins to speak")
        await asyncio.sleep(0.1)
    progress.say("it listens again")
    await asyncio.sleep(LISTEN_S)
    return (await api.get(f"/v1/calls/{call_id}")).json()


async def demo(options: argparse.Namespace) -> None:
    """The whole of it."""
    progress = Progress()
    out: Path = options.out
    check_room(out)
    sip, control, grpc = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="visavis-demo-") as scratch:
        folder = Path(scratch)
        token_file = folder / "data" / "tokens" / "api"
        make_token_file(token_file, "demo")
        token = read_token(token_file).reveal()
        shown = options.image or options.avatar
        face: dict[str, object] = {"avatar_image": shown} if shown else {}
        async with (
            service(
                "inference_server",
                folder / "inference_server.log",
                engine=options.engine,
                host="127.0.0.1",
                port=grpc,
                http_host="127.0.0.1",
                http_port=0,
                cache_dir=folder / "avatars",
            ) as inference,
            service(
                "orchestrator",
                folder / "orchestrator.log",
                sip_host="127.0.0.1",
                sip_port=sip,
                api_port=control,
                avatar_servers=f"127.0.0.1:{grpc}",
                size=options.size,
                fps=options.fps,
                greeting="",
                assistant="scripted",
                data_dir=folder / "data",
                cache_dir=folder / "cache",
                **face,
            ) as orchestrator,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{control}",
                timeout=30,
                headers={"Authorization": f"Bearer {token}"},
            ) as api,
        ):
            processes = {"inference_server": inference, "orchestrator": orchestrator}
            making = asyncio.create_task(callers_words(CLOCK_RATES["opus"]))
            try:
                await wait_ready(api, processes, progress, folder)
                words = await making
            finally:
                making.cancel()
            progress.say("dialling")
            async with Phone(f"sip:demo@127.0.0.1:{sip}", codec="opus") as phone:
                call = await converse(api, phone, options.text, options.language, progress)
                progress.say("a caller asks, and interrupts")
                said = await hold_dialogue(api, phone, call["call_id"], words)
                await asyncio.sleep(LISTEN_S)
            recording = phone.recording
            progress.say("writing what the phone received")
            decoding = asyncio.create_task(asyncio.to_thread(recording.frames))  # while the services end
    frames = await decoding
    if not frames:
        raise DemoFailed("the phone received no picture that decodes")
    figures = report(recording, frames, options.fps)
    try:
        write_movie(recording, frames, out / FILM)
        contact_sheet(recording, frames, out / SHEET)
    except (OSError, av.FFmpegError) as error:
        raise DemoFailed(f"{out} cannot be written: {error.strerror}") from None
    progress.end()
    print("\n".join(said))
    latency = call["media"].get("first_frame_ms")
    print("\n".join(figures.lines()))
    print(
        f"first frame     {latency:.0f} ms after the first audio" if latency else "first frame     never came"
    )
    print(f"seen by the phone: {out / FILM} and {out / SHEET}")


async def interruptible(options: argparse.Namespace) -> None:
    """The same until Ctrl-C, a closed terminal or SIGTERM, which raise ``CancelledError``."""
    task = asyncio.current_task()
    assert task
    for number in ENDS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await demo(options)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="One whole call on this machine.")
    parser.add_argument(
        "--avatar", type=str.lower, help=f"built-in portrait ({', '.join(CAST)}); default: the one of calls"
    )
    parser.add_argument("--image", type=lambda value: Path(value).resolve(), help="portrait of your own")
    parser.add_argument("--text", default=TEXT, help="what is said")
    parser.add_argument("--language", default="en", help="en, de, fr, es, cmn...")
    parser.add_argument("--size", default="512x512", help="WIDTHxHEIGHT, both even")
    parser.add_argument("--fps", type=int, default=25, help="video frames per second")
    parser.add_argument("--engine", default="portrait", help="lip-sync engine of the inference server")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for what was received")
    options = parser.parse_args()
    if options.image and options.avatar:
        raise SystemExit(f"demo: a picture and the built-in face {options.avatar} are named: leave one away")
    if options.avatar and options.avatar not in CAST:
        raise SystemExit(f"demo: there is no built-in face {options.avatar}: name one of {', '.join(CAST)}")
    if options.image is not None and not options.image.is_file():
        raise SystemExit(f"demo: there is no picture {options.image}")
    try:
        asyncio.run(interruptible(options))
    except (DemoFailed, CallFailed) as error:
        raise SystemExit(f"\ndemo: {error}") from None
    except TimeoutError:
        raise SystemExit("\ndemo: the caller's question got no answer: is the machine very busy?") from None
    except asyncio.CancelledError:
        print("\ndemo: stopped", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)  # so that make and the shell know


if __name__ == "__main__":
    main()
