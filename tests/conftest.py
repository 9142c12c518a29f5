"""What every test leaves as it was."""

import faulthandler
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.peers.peers import PACKAGES, require
from tests.support.credentials import FLEET_TOKEN, write_tokens
from visavis.roomkit.background import shared_background
from visavis.service.security import FLEET_SCOPES, fleet_file

_DATA = tempfile.TemporaryDirectory(prefix="visavis-test-data-")
os.environ["XDG_DATA_HOME"] = _DATA.name  # where services and clients of one machine share their token
write_tokens(fleet_file(), FLEET_TOKEN, FLEET_SCOPES)

pytest_plugins = ["tests.support.marks", "tests.support.leftovers"]
ENDING_S = 60.0
LOGGERS = [logging.getLogger(name) for name in (None, "inference_server", "orchestrator", "visavis")]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose peer is missing is skipped before its fixtures, and what they start, are made."""
    for mark in item.iter_markers("peer"):
        for program in mark.args:
            require(program, PACKAGES[program])


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """A run that does not end after its last test says where it waits, and fails.

    A process of pytest-xdist waits for the others' tests, and is ended with them.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    faulthandler.dump_traceback_later(ENDING_S, exit=True, file=sys.__stderr__ or 2)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test may run a service's entry point, which sets up the logs of the whole process."""
    before = [(logger, logger.level, list(logger.handlers)) for logger in LOGGERS]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = [one for one in logger.handlers if one in handlers]


@pytest.fixture(scope="session")
def providers_loop() -> None:
    """The event loop that all providers of a process share, to its end."""
    shared_background()
