"""What a decoder may still do once it is in its sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, socket, sys, threading
from pathlib import Path
from visavis.service import sandbox

scratch = Path(sys.argv[1])
{before}
held = open("/etc/hostname")
lacking = sandbox.enter(scratch, [Path(os.__file__).parent])
outcomes = dict(lacking=lacking)

def attempt(name, work):
    try:
        work()
        outcomes[name] = "done"
    except OSError as error:
        outcomes[name] = type(error).__name__

attempt("open", lambda: open("/etc/hostname"))
attempt("read code", lambda: open(os.__file__))
attempt("write code", lambda: open(os.__file__, "a"))
attempt("open secrets", lambda: open("/proc/1/environ"))
attempt("list", lambda: os.listdir("/"))
attempt("write elsewhere", lambda: open("/tmp/not-there", "w"))
attempt("leave scratch", lambda: os.link("/etc/hostname", scratch / "link") )
attempt("socket", lambda: socket.socket())
attempt("connect", lambda: socket.create_connection(("127.0.0.1", 9)))
attempt("unix socket", lambda: socket.socketpair())
attempt("fork", os.fork)
attempt("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {{}}))
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("kill", lambda: os.kill(os.getppid(), 0))
attempt("write scratch", lambda: (scratch / "new").write_text("x"))
attempt("rename scratch", lambda: (scratch / "new").rename(scratch / "old"))
attempt("read scratch", lambda: (scratch / "old").read_text())
attempt("what is open", held.read)
attempt("memory file", lambda: open(f"/proc/self/fd/{{os.memfd_create('clip')}}", "rb"))
thread = threading.Thread(target=lambda: attempt("open in a thread", lambda: open("/etc/hostname")))
thread.start()
thread.join()
print(json.dumps(outcomes))
"""


def outcomes(scratch: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    code = PROGRAM.format(before=before)
    return subprocess.run(
        [sys.executable, "-c", code, str(scratch)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.process
def test_a_decoder_opens_connects_and_starts_nothing(tmp_path: Path) -> None:
    run = outcomes(tmp_path)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told.pop("lacking") == []
    allowed = {"read code", "write scratch", "rename scratch", "read scratch", "what is open", "memory file"}
    assert {name for name, outcome in told.items() if outcome == "done"} == allowed
    assert told.pop("leave scratch") in (
        "PermissionError",
        "OSError",
    )  # EXDEV, where links may be made at all
    assert {outcome for name, outcome in told.items() if name not in allowed} == {"PermissionError"}


@pytest.mark.process
def test_no_thread_stays_outside(tmp_path: Path) -> None:
    run = outcomes(tmp_path, "threading.Thread(target=threading.Event().wait, daemon=True).start()")
    assert run.returncode != 0 and "enter it before they begin" in run.stderr


@pytest.mark.process
@pytest.mark.parametrize("size", ["64 << 20", "512 << 20"])
def test_memory_is_bounded(size: str) -> None:
    code = f"""
from visavis.service.sandbox import bound_memory
assert bound_memory(256 << 20) <= 256 << 20
try:
    bytearray({size})
except MemoryError:
    raise SystemExit(3)
"""
    run = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert run.returncode == (3 if size.startswith("512") else 0)
