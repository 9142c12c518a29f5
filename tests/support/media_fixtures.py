"""Fixtures of the tests of a media session: ``pytest_plugins = ["tests.support.media_fixtures"]``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from orchestrator.avatar import avatars
from orchestrator.avatar.still import fit, grey_body
from orchestrator.media.sources import StillBody
from orchestrator.worker.host import HostSettings, MediaHost
from tests.support.media import Phone


@pytest.fixture
def phone() -> Iterator[Phone]:
    """The far end of a call."""
    phone = Phone()
    yield phone
    phone.close()


@pytest.fixture
async def host() -> AsyncIterator[MediaHost]:
    """A media host with its clock running."""
    host = MediaHost(HostSettings())
    host.start()
    yield host
    await host.close()


@pytest.fixture
def stills_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sandbox, and no process, for pictures of our own."""

    def still_body(image: bytes, width: int, height: int) -> StillBody:
        frame = fit(image, width, height)
        return grey_body(width, height) if frame is None else StillBody("still", frame[None])

    monkeypatch.setattr(avatars, "still_body", still_body)
