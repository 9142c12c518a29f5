"""A PulseAudio of a test's own: what phones without files for sound play is recorded, and they hear a tone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.peers import require

TONE_HZ = 440
_SCRIPT = """load-module module-null-sink sink_name=far rate=48000
load-module module-null-sink sink_name=mouth rate=48000
load-module module-sine sink=mouth frequency={tone} rate=48000
load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
set-default-sink far
set-default-source mouth.monitor
"""


@dataclass
class Sound:
    """``environment`` leads programs to it; ``heard`` is a WAV file of what was played."""

    environment: dict[str, str]
    heard: Path


@asynccontextmanager
async def pulse(folder: Path) -> AsyncIterator[Sound]:
    """Programs with ``environment`` have ALSA and PulseAudio there."""
    server = require("pulseaudio", "pulseaudio pulseaudio-utils libasound2-plugins")
    recorder = require("parec", "pulseaudio-utils")
    folder.mkdir(parents=True, exist_ok=True)
    socket, heard = folder / "pulse.sock", folder / "heard.wav"
    (folder / "pulse.pa").write_text(_SCRIPT.format(tone=TONE_HZ, socket=socket))
    (folder / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    environment = {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PATH": "/usr/sbin:/usr/bin:/bin",
        "PULSE_SERVER": f"unix:{socket}",
        "PULSE_LATENCY_MSEC": "20",
    }
    command = [server, "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "-F", "pulse.pa"]
    async with contextlib.AsyncExitStack() as stack:
        with (folder / "pulse.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            stack.push_async_callback(end, process)
            async with asyncio.timeout(20):
                while not socket.exists():
                    assert process.returncode is None, (folder / "pulse.log").read_text(errors="replace")
                    await asyncio.sleep(0.05)
            recording = await asyncio.create_subprocess_exec(
                *(recorder, "-d", "far.monitor", "--rate=16000", "--channels=1", "--file-format=wav", str(heard)),
                env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            stack.push_async_callback(end, recording)
        yield Sound(environment, heard)


async def end(process: asyncio.subprocess.Process) -> None:
    """Terminate it and wait."""
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        process.kill()
        await process.wait()
