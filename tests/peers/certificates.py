"""A certificate authority of a test, by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.peers.peers import require


class Authority:
    """Its certificate is ``ca``; ``issue`` makes others, each a pair of files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._openssl = require("openssl", "openssl")
        self.ca, self._key = str(folder / "ca.pem"), str(folder / "ca.key")
        self._run("req", "-x509", *_NEW, "-subj", "/CN=ca of a test", "-keyout", self._key, "-out", self.ca)

    def issue(self, name: str) -> tuple[str, str]:
        """Certificate and key of ``name``, and of 127.0.0.1."""
        pem, key, request = (str(self._folder / f"{name}.{end}") for end in ("pem", "key", "csr"))
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\n")
        self._run("req", *_NEW, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        signed = (
            "-CA",
            self.ca,
            "-CAkey",
            self._key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            str(extensions),
        )
        self._run("x509", "-req", "-in", request, *signed, "-out", pem)
        return pem, key

    def _run(self, *words: str) -> None:
        done = subprocess.run([self._openssl, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
