"""A program on a terminal of its own: all it prints there, a key pressed or the terminal closed at a moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERRUPT = b"\x03"


def _on_its_own() -> None:
    """Hung up with its terminal, though we may have been started by ``nohup``."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def on_terminal(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    press_after: float | str,
    key: bytes | None = INTERRUPT,
    within_s: float = 60.0,
) -> tuple[int, str]:
    """Exit status and what stood on the terminal. ``press_after``: seconds, or a text that it prints.
    ``key`` None closes the terminal.

    It leads a session whose terminal this is, as in a window of a desktop.
    """
    ours, theirs = os.openpty()
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_on_its_own,
        )
        os.close(theirs)
        begun, pressed, said = time.monotonic(), False, b""
        with contextlib.suppress(OSError):  # EIO: nobody holds the other side any more
            while time.monotonic() - begun < within_s:
                if select.select([ours], [], [], 0.02)[0]:
                    more = os.read(ours, 65536)
                    if not more:
                        break
                    said += more
                due = (
                    press_after.encode() in said
                    if isinstance(press_after, str)
                    else time.monotonic() - begun >= press_after
                )
                if due and not pressed:
                    if key is None:
                        break
                    os.write(ours, key)
                    pressed = True
        if key is None:
            os.close(ours)
        try:
            return process.wait(within_s), said.decode(errors="replace")
        finally:
            process.kill()
            process.wait()
    finally:
        with contextlib.suppress(OSError):
            os.close(ours)
