"""A bare Debian 12: a root of debootstrap's in memory, in namespaces that end with the process that holds them.

Nothing of this machine is in there but its network, its Debian mirror, its certificate authorities and what pip is
told of an index.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.peers.peers import absent, require

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
NEEDED_KB = 5_000_000
USER = "visitor"
HOME = f"/home/{USER}"
REPOSITORY = "/srv/visavis"
AUTHORITIES = "/usr/local/share/ca-certificates"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
HOLD = f"""
set -e
mount --make-rprivate /
mount -t tmpfs -o size=4g tmpfs "$0"
mkdir "$0/root"
debootstrap --variant=minbase --include=ca-certificates {SUITE} "$0/root" "$1" >&2
mount -t proc proc "$0/root/proc"
mount --rbind /dev "$0/root/dev"
mount -t tmpfs tmpfs "$0/root/dev/shm"
mkdir -p "$0/root/full" && mount -t tmpfs -o size=1m,mode=1777 tmpfs "$0/root/full"
echo made
exec sleep infinity
"""


class BareDebian:
    """The machine while it is there. ``root``: its files, seen from outside."""

    def __init__(self, holder: int, folder: Path) -> None:
        self._holder = holder
        self._inside = folder / "root"
        self.root = Path(f"/proc/{holder}/root{self._inside}")
        self._namespace = Path(f"/proc/{holder}/ns/pid").readlink()

    def command(self, *words: str, user: str = USER, folder: str = HOME, **environment: str) -> list[str]:
        """What runs these words in there, with this environment and pip's settings only."""
        told = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root" if user == "root" else HOME,
            "DEBIAN_FRONTEND": "noninteractive",
            **pip_settings(),
            **environment,
        }
        identity = [] if user == "root" else ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
        given = [f"{name}={value}" for name, value in told.items()]
        chdir = ["env", "-i", f"--chdir={folder}", *given]
        namespaces = ["nsenter", f"--target={self._holder}", "--mount", "--pid", "--ipc", "--uts"]
        return [*namespaces, "chroot", str(self._inside), *identity, *chdir, *words]

    def run(
        self, *words: str, user: str = USER, folder: str = HOME, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run to its end, without a terminal."""
        return subprocess.run(
            self.command(*words, user=user, folder=folder, **environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def done(self, *words: str, user: str = USER, folder: str = HOME, timeout: float = 300) -> str:
        """The same; fails where it fails, and returns what it said."""
        made = self.run(*words, user=user, folder=folder, timeout=timeout)
        assert made.returncode == 0, f"{' '.join(words)}: {made.stdout[-3000:]}{made.stderr[-3000:]}"
        return made.stdout + made.stderr

    def processes(self) -> list[str]:
        """Command lines of what runs in there, but for what holds it."""
        found = []
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit() or int(entry.name) == self._holder:
                continue
            with contextlib.suppress(OSError):
                if Path(entry.path, "ns/pid").readlink() == self._namespace:
                    line = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                    found += [line] if line else []
        return found

    def mount(self, outside: Path) -> None:
        """Show a folder of this machine in there, at the same path, to be read by everybody."""
        place = self.root / str(outside).lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for parent in list(place.parents)[: len(outside.parts) - 2]:
            parent.chmod(0o755)
        script = f'mount --bind -o ro "$1" "{self._inside}$1"'
        enter = ["nsenter", f"--target={self._holder}", "--mount"]
        subprocess.run([*enter, "sh", "-c", script, "sh", str(outside)], check=True)


def pip_settings() -> dict[str, str]:
    """What pip of this machine is told of an index on the network, as variables; folders are left out."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {"PIP_CERT": BUNDLE, "SSL_CERT_FILE": BUNDLE, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.strip(":").rpartition(".")[2].replace("-", "_").upper()
        if key in ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "PROXY", "TIMEOUT", "DEFAULT_TIMEOUT"):
            words = [word for word in value.strip("'").split() if not word.startswith("file:")]
            if words:
                found[f"PIP_{key}"] = " ".join(words)
    passed = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    return found | passed


def mirror() -> str:
    """The Debian mirror of this machine's apt, or ""."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {SUITE}", "Identifier: Packages"],
        capture_output=True,
        text=True,
    )
    return next(iter(asked.stdout.split()), "")


def _needs() -> None:
    """Skip, or fail in CI, where no such machine can be made."""
    for program, package in (("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("apt-get", "apt")):
        require(program, package)
    if os.geteuid() != 0:
        absent("root", "debootstrap and namespaces need it")
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    if int(memory["MemAvailable"].split()[0]) < NEEDED_KB:
        absent("memory", f"the machine lies in {NEEDED_KB // 10**6} GB of it")
    if not mirror():
        absent(f"a Debian mirror of {SUITE}", "apt of this machine knows none")


@contextlib.contextmanager
def bare_debian(folder: Path) -> Iterator[BareDebian]:
    """Made in ``folder``, with this checkout's files as a Git repository in ``/srv/visavis``."""
    _needs()
    command = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", HOLD]
    with (folder / "log").open("wb") as log:
        holder = subprocess.Popen([*command, str(folder), mirror()], stdout=subprocess.PIPE, stderr=log)
    try:
        assert holder.stdout
        if b"made" not in holder.stdout.readline():
            last = (folder / "log").read_text(errors="replace").splitlines()[-3:]
            absent("a bare Debian", f"debootstrap of {SUITE} failed: {' '.join(last)}")
        (inner,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        machine = BareDebian(int(inner), folder)
        _furnish(machine)
        yield machine
    finally:
        holder.kill()  # and with it every process and mount in there
        holder.wait()
        assert holder.stdout
        holder.stdout.close()


def _furnish(machine: BareDebian) -> None:
    shutil.copy("/etc/resolv.conf", machine.root / "etc")
    for certificate in Path(AUTHORITIES).glob("*.crt"):
        shutil.copy(certificate, machine.root / AUTHORITIES.lstrip("/"))
    machine.done("update-ca-certificates", user="root", folder="/")
    machine.done("useradd", "--create-home", "--uid=1000", USER, user="root", folder="/")
    place = machine.root / REPOSITORY.lstrip("/")
    place.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)


def await_none(machine: BareDebian, within_s: float = 30.0) -> None:
    """Until nothing runs in there any more."""
    deadline = time.monotonic() + within_s
    while left := machine.processes():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
