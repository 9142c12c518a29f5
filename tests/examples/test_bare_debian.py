"""The first hour on a bare Debian 12, in memory: README's two commands from nothing, and what goes wrong there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.ports import free_port
from tests.peers.bare_debian import HOME, REPOSITORY, ROOT, BareDebian, await_none, bare_debian
from tests.peers.peers import absent
from tests.support.terminal import on_terminal

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("debootstrap")]
CHECKOUT = f"{HOME}/visavis"
README = (ROOT / "README.md").read_text()
WHOLE = os.environ.get("BARE_DEBIAN_WHOLE") == "1"
"""Run all of ``make test`` in there (a quarter of an hour), not its set-up, its collection and a small part."""
PART = "tests/examples/test_demo.py tests/service/test_logs.py -k 'handed_over or logs or terminal'"
FETCHED_MB = 300


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareDebian]:
    """With what README says to install, and a clone made as it says."""
    with bare_debian(tmp_path_factory.mktemp("debian")) as made:
        (packages,) = re.findall(r"`apt install ([^`]+)`", README)
        made.done("apt-get", "update", "--quiet=2", user="root", folder="/")
        made.done("apt-get", "install", "--quiet=2", "--yes", *packages.split(), user="root", folder="/")
        made.done("git", "init", "--quiet", REPOSITORY, user="root", folder="/")
        made.done("git", "add", "--all", user="root", folder=REPOSITORY)
        own = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        made.done("git", *own, "commit", "--quiet", "--message=all", user="root", folder=REPOSITORY)
        made.done("git", "config", "--global", "--add", "safe.directory", f"{REPOSITORY}/.git")
        clone = command("git clone").replace("URL-OF-THIS-REPOSITORY", REPOSITORY)
        made.done("bash", "-ec", clone)
        yield made


def command(begins: str) -> str:
    """README's line that begins so, without its comment."""
    (line,) = re.findall(rf"^{begins}\b.*$", README, re.MULTILINE)
    return line.partition("#")[0].strip()


def free_ports(*, api: int = 0) -> dict[str, str]:
    """Settings of both services: this machine's network is the bare one's, too."""
    grpc = free_port()
    return {
        "VISAVIS_SIP_PORT": str(free_port()),
        "VISAVIS_API_PORT": str(api or free_port()),
        "VISAVIS_INFERENCE_PORT": str(grpc),
        "VISAVIS_AVATAR_SERVERS": f"127.0.0.1:{grpc}",
        "VISAVIS_INFERENCE_HTTP_PORT": str(free_port()),
        "VISAVIS_SIZE": "128x128",
    }


def test_make_demo_from_nothing(machine: BareDebian) -> None:
    before = received()
    setup = machine.run("make", "setup", folder=CHECKOUT, timeout=600)
    assert setup.returncode == 0, setup.stderr[-3000:]
    fetched = (received() - before) / 1e6
    print(f"set-up: {fetched:.0f} MB came in while it ran")
    said = machine.run("bash", "-ec", command("make demo"), folder=CHECKOUT, timeout=300)
    assert said.returncode == 0, said.stderr[-3000:]
    assert "0 lost" in said.stdout and "first frame" in said.stdout, said.stdout
    lines = [line for line in said.stderr.splitlines() if line.strip()]
    assert lines and all(re.match(r"\[ *\d+\.\d s\] [a-z']", line) for line in lines), said.stderr
    assert "no inference server" not in said.stderr
    for name, least in (("demo.mp4", 300_000), ("demo.png", 300_000)):
        assert (machine.root / CHECKOUT.lstrip("/") / "out" / name).stat().st_size > least
    await_none(machine)


def received() -> int:
    """Bytes that this machine's interfaces but for the loopback have received."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sum(int(line.split()[1]) for line in lines if not line.split()[0].startswith("lo"))


def test_make_test_from_nothing(machine: BareDebian) -> None:
    line = command("make test")
    if WHOLE:
        said = machine.run("bash", "-ec", line, folder=CHECKOUT, timeout=3600)
        assert said.returncode == 0, said.stdout[-6000:] + said.stderr[-2000:]
        print(said.stdout[-3000:])
        return
    said = machine.run(*line.split(), f"ARGS={PART}", folder=CHECKOUT, timeout=600)
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    assert re.search(r"\b[89]|\d\d passed", said.stdout), said.stdout
    collected = machine.done(
        *(".venv/bin/python", "-m", "pytest", "--collect-only", "--quiet", "-m", "not torch"), folder=CHECKOUT
    )
    assert int(re.findall(r"(\d+)(?:/\d+)? tests collected", collected)[-1]) > 1500
    await_none(machine)


def test_a_closed_terminal_leaves_nothing_running(machine: BareDebian) -> None:
    words = machine.command("make", "run", folder=CHECKOUT, **free_ports())
    _, said = on_terminal(words, Path("/"), os.environ, press_after="Ready. Call", key=None, within_s=120)
    assert "Ready. Call" in said, said
    await_none(machine)


def test_a_full_disk_is_named_and_what_waits_for_room_can_be_ended(machine: BareDebian) -> None:
    """``/full`` has one megabyte."""
    cache = {"VISAVIS_INFERENCE_CACHE_DIR": "/full/avatars"}
    words = machine.command(
        "make", "run", folder=CHECKOUT, **free_ports() | {"VISAVIS_SIZE": "512x512"} | cache
    )
    last = "VISAVIS_INFERENCE_CACHE_DIR.)."  # of what make run says; a line of the log goes before it
    status, said = on_terminal(words, Path("/"), os.environ, press_after=last, within_s=120)
    told = r"Not ready yet: .*/full/avatars, cannot be written \(.*space.*\): make room there"
    assert re.search(told, said), said
    assert status in (0, -2, 130) and "Traceback" not in said, said
    await_none(machine)
    demo = machine.run("make", "demo", folder=CHECKOUT, TMPDIR="/full")
    assert demo.returncode == 2 and "/full has less than" in demo.stderr, demo.stderr
    assert "Traceback" not in demo.stderr


def test_a_taken_port_is_named_with_its_setting(machine: BareDebian) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = machine.run("make", "run", folder=CHECKOUT, **free_ports(api=port))
    assert said.returncode == 2 and "Ready" not in said.stdout
    assert (
        f"Port {port} is taken: end what listens there, or choose another one with VISAVIS_API_PORT"
        in said.stderr
    )
    await_none(machine)


def test_other_pythons_are_set_up_by_their_path(machine: BareDebian) -> None:
    """Both at once: most of it is waiting for packages."""
    under_way = {}
    for version, prefix in [(version, prefix_of(version)) for version in ("3.12", "3.13")]:
        machine.mount(prefix)
        words = ("make", "setup", f"PYTHON={prefix}/bin/python{version}", f"VENV=.venv-{version}")
        under_way[version] = subprocess.Popen(
            machine.command(*words, folder=CHECKOUT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    said = {version: setup.communicate(timeout=600)[0].decode() for version, setup in under_way.items()}
    for version, setup in under_way.items():
        assert setup.returncode == 0, said[version][-3000:]
        demo = ("-m", "examples.demo", "--size=128x128", "--text=Hi.")
        assert "0 lost" in machine.done(f".venv-{version}/bin/python", *demo, folder=CHECKOUT)
    await_none(machine)


def prefix_of(version: str) -> Path:
    """Where this machine has such a Python in a folder of its own; skips, or fails in CI, where it has none."""
    named = os.environ.get("OTHER_PYTHONS", "").split()
    there = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for python in [*map(Path, named), *there]:
        if version in str(python) and python.exists():
            asked = [python, "-c", "import sys; print(sys.base_prefix)"]
            prefix = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
            if prefix != Path("/usr"):
                return prefix
    return absent(f"Python {version}", "name one that lies in a folder of its own in OTHER_PYTHONS")
