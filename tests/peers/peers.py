"""Programs of others that take part in tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "baresip": "baresip-core baresip-ffmpeg",
    "chromium": "chromium",
    "curl": "curl",
    "debootstrap": "debootstrap",
    "espeak-ng": "espeak-ng",
    "ffmpeg": "ffmpeg",
    "gdbus": "libglib2.0-bin dbus",
    "gst-launch-1.0": "gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-libav",
    "ip": "iproute2",
    "jamid": "jami-daemon",
    "kamailio": "kamailio",
    "linphonec": "linphone-cli mediastreamer2-plugin-openh264",
    "nft": "nftables",
    "nginx": "nginx-light",
    "npm": "npm",
    "rtpengine": "rtpengine-daemon",
    "openssl": "openssl",
    "postgres": "postgresql",
    "promtool": "prometheus",
    "pulseaudio": "pulseaudio pulseaudio-utils libasound2-plugins",
    "sipp": "sip-tester",
    "sox": "sox",
    "turnserver": "coturn",
    "twinkle-console": "twinkle-console",
    "xvfb-run": "xvfb xauth",
}
"""What ``pytest.mark.peer("baresip")`` looks for before anything of a test is started, by program."""


def require(program: str, package: str) -> str:
    """The program's path. Where CI runs its absence is a failure, elsewhere a loud skip."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    folders += [
        f"{folder[:-3]}sbin" for folder in folders if folder.endswith("/bin")
    ]  # which users lack on Debian
    folders.append("/usr/libexec")
    if "/usr/bin" in folders:
        folders += map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    path = shutil.which(program, path=os.pathsep.join(folders))
    if path is None:
        absent(program, f"apt-get install {package}")
    return path


def absent(what: str, remedy: str) -> NoReturn:
    """Fail where CI runs, skip elsewhere."""
    message = f"{what} is missing: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
