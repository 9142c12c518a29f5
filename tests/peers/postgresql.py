"""A real PostgreSQL on a loopback port of its own, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from testing.ports import free_port
from tests.peers.peers import require

START_S = 60.0


class PostgreSQL:
    """``url`` is what clients are given."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self._folder, self._user = folder, user
        self._port = free_port()
        self.url = f"postgresql://visavis@127.0.0.1:{self._port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        postgres = require("postgres", "postgresql")
        self._run(
            [
                str(Path(postgres).with_name("initdb")),
                "-A",
                "trust",
                "-U",
                "visavis",
                "--no-sync",
                "-D",
                "data",
            ]
        )
        self._postgres = postgres

    def start(self) -> None:
        """Begin to serve; returns when it does."""
        log = self._folder / "log"
        log.write_bytes(b"")
        options = ["-D", "data", "-p", str(self._port), "-k", "", "-h", "127.0.0.1", "-F"]
        with log.open("ab") as out:
            process = subprocess.Popen(
                [self._postgres, *options], cwd=self._folder, user=self._user, stdout=out, stderr=out
            )
        self._process = process
        deadline = time.monotonic() + START_S
        while b"ready to accept connections" not in log.read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: by default its connections, too."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_S)
            self._process = None

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, cwd=self._folder, user=self._user, check=True, capture_output=True)


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """One that serves; as another user where we are root, whom it refuses."""
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(
        tempfile.mkdtemp(prefix="visavis-test-postgresql-", dir="/tmp")
    )  # our own folder is not theirs
    try:
        if user is not None:
            shutil.chown(folder, pwd.getpwnam(user).pw_uid)
        server = PostgreSQL(folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
