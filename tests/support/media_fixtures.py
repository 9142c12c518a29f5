"""Fixtures of the tests of a media session: ``pytest_plugins = ["tests.support.media_fixtures"]``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

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
