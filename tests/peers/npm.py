"""JavaScript user agents as their makers publish them: from npm, bundled for a page, unchanged otherwise."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.peers.peers import require

PACKAGES = ("jssip@3.13.8", "sip.js@0.21.2", "axe-core@4.14.1", "esbuild@0.28.2")
"""MIT, MIT, MPL-2.0, MIT. Nothing of them is in this repository."""
_MAIN = {"JsSIP": "jssip/lib/JsSIP.js", "SIP": "sip.js/lib/index.js", "axe": "axe-core/axe.js"}


def installed() -> Path:
    """Where the packages are, for the next run too."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "visavis-tests-npm" / "+".join(PACKAGES)
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = [require("npm", "npm"), "install", "--no-save", "--no-package-lock", "--ignore-scripts"]
        subprocess.run(
            [*npm, "--prefix", str(folder), *PACKAGES], check=True, capture_output=True, timeout=300
        )
        (folder / "done").touch()
    return folder


def bundle(name: str) -> str:
    """A script that makes the package a global: JsSIP, SIP or axe."""
    folder = installed()
    out = folder / f"{name}.js"
    if not out.exists():
        entry = folder / "node_modules" / _MAIN[name]
        subprocess.run(
            [
                *(str(folder / "node_modules/.bin/esbuild"), str(entry), "--bundle", "--minify"),
                *("--format=iife", f"--global-name={name}", "--platform=browser", f"--outfile={out}"),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    return out.read_text()
