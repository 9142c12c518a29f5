"""RoomKit's own avatar tests against this project: ``python -m bench.roomkit_tests PATH_OF_A_ROOMKIT_CHECKOUT``.

In the environment of ``make test-roomkit``. ``tests/test_avatar.py`` and ``tests/video/test_websocket_avatar.py``
are run as they are, then with our providers in the place of RoomKit's: the mock, and ``HTTPAvatarProvider`` over a
server with the mock engine. What does not apply is named with its reason. Exits 1 where a test fails, and where no
test of a file ran.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import roomkit.video.avatar as roomkit_avatar
import roomkit.video.avatar.websocket as roomkit_websocket

from tests.support.house import picture
from tests.support.servers import running_server
from visavis import HTTPAvatarProvider, MockAvatarProvider

OF_THE_MOCK = "asks the mock for what only a mock has"
OTHERS = {
    "test_name": "our name is another one",
    "test_feed_audio_produces_frame": "asks for 64x48, our least is 64x64; test_default_dimensions asks for more",
    "test_feed_audio_tracking": OF_THE_MOCK,
    "test_feed_audio_frame_color": OF_THE_MOCK,
    "test_idle_frame": "counts calls of the mock; idle pictures of ours: tests/with_roomkit/test_call.py",
    "test_idle_frame_none_when_disabled": OF_THE_MOCK,
    "test_flush": "the mock returns a picture for a turn without a sound; ours has nothing to say then",
}
OF_THE_STOCK_CLIENT = {
    "test_constructor": "asks for the name 'websocket'; the constructor's arguments are ours too",
    "test_parse_frame_valid": "calls a private method of the stock client",
    "test_parse_frame_too_small": "calls a private method of the stock client",
}


@dataclass
class Chosen:
    """A pytest plugin: leaves out what does not apply, and counts."""

    not_applicable: Mapping[str, str]
    passed: int = 0
    failed: list[str] = field(default_factory=list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if item.name in self.not_applicable:
                print(f"  does not apply: {item.name}: {self.not_applicable[item.name]}")
        items[:] = [item for item in items if item.name not in self.not_applicable]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1


def provider_over(url: str) -> type[HTTPAvatarProvider]:
    """One that is made and started as RoomKit's mock is: without an address, without a real image."""

    class OverHTTP(HTTPAvatarProvider):
        def __init__(self, base_url: str = url, *, fps: int = 50) -> None:  # 20 ms of sound are one picture
            super().__init__(url, fps=fps, is_async=False, connect_timeout=20.0)

        async def start(self, reference_image: bytes, *, width: int = 512, height: int = 512) -> None:
            await super().start(picture(), width=width, height=height)

    return OverHTTP


def tests(title: str, path: Path, not_applicable: Mapping[str, str]) -> Chosen:
    """Run one file."""
    print(title, flush=True)
    chosen = Chosen(not_applicable)
    sys.modules.pop(path.stem, None)
    options = [
        "-q",
        "--no-header",
        "--no-summary",
        "-W",
        "ignore",
        "-p",
        "no:cacheprovider",
        "--noconftest",  # the checkout's package `tests` has the name of ours
        "--import-mode=importlib",
        "-c",
        "/dev/null",
    ]
    pytest.main(
        [
            *options,
            "-o",
            "asyncio_mode=auto",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            "--rootdir",
            str(path.parent),
            str(path),
        ],
        plugins=[chosen],
    )
    if not chosen.passed and not chosen.failed:
        chosen.failed.append(f"{path}: no test ran")
    print(f"  {chosen.passed} passed, {len(chosen.failed)} failed {' '.join(chosen.failed)}", flush=True)
    return chosen


def cases(checkout: Path, ours: Any) -> list[Chosen]:
    """Every combination that makes sense."""
    mock, stock = checkout / "tests/test_avatar.py", checkout / "tests/video/test_websocket_avatar.py"
    done = [tests("RoomKit's mock", mock, {}), tests("RoomKit's stock client", stock, {})]
    with patch.object(roomkit_avatar, "MockAvatarProvider", MockAvatarProvider):
        done.append(tests("our MockAvatarProvider in the place of RoomKit's", mock, {}))
    with patch.object(roomkit_avatar, "MockAvatarProvider", ours):
        done.append(tests("HTTPAvatarProvider in the place of RoomKit's mock", mock, OTHERS))
    with patch.object(roomkit_websocket, "WebSocketAvatarProvider", ours):
        title = "HTTPAvatarProvider in the place of RoomKit's stock client"
        done.append(tests(title, stock, OF_THE_STOCK_CLIENT))
    return done


async def run(checkout: Path) -> int:
    """Returns how many failed."""
    async with running_server(engine_settings={"look_ahead_ms": 0}) as server:
        ours = provider_over(f"http://127.0.0.1:{server.http_port}")
        return sum(len(c.failed) for c in await asyncio.to_thread(cases, checkout, ours))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    failed = asyncio.run(run(parser.parse_args(arguments).checkout))
    print(f"{failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
