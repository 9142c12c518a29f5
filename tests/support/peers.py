"""Programs of others that take part in tests."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require(program: str, package: str) -> str:
    """The program's path. Where CI runs its absence is a failure, elsewhere a loud skip."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        absent(program, f"apt-get install {package}")
    return path


def absent(what: str, remedy: str) -> NoReturn:
    """Fail where CI runs, skip elsewhere."""
    message = f"{what} is missing: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
