"""Preparations that clients ask for and leave."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference_server.avatars import preparation as module
from inference_server.avatars.preparation import PreparationQueue, PrepareRequest
from inference_server.avatars.store import AvatarStore
from inference_server.errors import RequestError
from inference_server.settings import Settings
from inference_server.uploads import Upload
from tests.support.avatar_client import portrait
from visavis.service.logs import Log


def asked(folder: Path) -> PrepareRequest:
    """A portrait that has been uploaded into a folder, with the defaults."""
    (folder / "upload").mkdir()
    upload = Upload(folder / "upload")
    upload.append(portrait())
    return PrepareRequest(upload, 320, 240, Fraction(25), "crop", {})


class Forever(PreparationQueue):
    """Whose work never ends by itself."""

    async def _work(self, *_: Any) -> Any:
        await asyncio.Event().wait()


async def test_a_client_that_leaves_leaves_nothing_behind(tmp_path: Path) -> None:
    engine: Any = SimpleNamespace(loaded=SimpleNamespace(own_body="own", info={"name": "e", "build": "1"}))
    store: Any = SimpleNamespace(avatar=lambda avatar_id: None)
    preparation = Forever(Settings(), store, engine, Log(__name__), lambda avatar_id: None)
    before = asyncio.all_tasks()
    steps = preparation.prepare(asked(tmp_path))
    assert await anext(steps) == 0.0
    waiting = asyncio.ensure_future(anext(steps))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await steps.aclose()
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
async def test_a_body_process_that_dies_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(module, "PROGRAM", replace(module.PROGRAM, module="tests.support.nothing"))
    loaded = SimpleNamespace(own_body="own", info={"name": "mock", "build": "1"})
    engine: Any = SimpleNamespace(loaded=loaded)
    scratch = tmp_path / "scratch"
    store: Any = SimpleNamespace(
        avatar=lambda avatar_id: None,
        body=lambda body_id: None,
        scratch=lambda: scratch,
        discard=lambda folder: shutil.rmtree(folder, ignore_errors=True),
    )
    preparation = PreparationQueue(Settings(), store, engine, Log(__name__), lambda avatar_id: None)
    with pytest.raises(RequestError, match="could not be made into a body loop"):
        async for _ in preparation.prepare(asked(tmp_path)):
            pass
    (line,) = [vars(record)["fields"] for record in caplog.records if record.msg == "body_process_failed"]
    assert line["reason"] == "the body maker process ended with code 1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
async def test_a_disk_that_cannot_take_the_body_is_not_the_uploads_fault(tmp_path: Path) -> None:
    loaded = SimpleNamespace(own_body="own", info={"name": "mock", "build": "1"})
    engine: Any = SimpleNamespace(loaded=loaded)
    (tmp_path / "body").touch()
    scratch = tmp_path / "body" / "scratch"  # nothing can be written below a file
    store: Any = SimpleNamespace(
        avatar=lambda avatar_id: None,
        body=lambda body_id: None,
        scratch=lambda: scratch,
        discard=lambda folder: None,
        unwritable=AvatarStore(tmp_path, 10**9).unwritable,
    )
    settings = Settings(engine="mock", cache_dir=tmp_path)
    preparation = PreparationQueue(settings, store, engine, Log(__name__), lambda avatar_id: None)
    with pytest.raises(RequestError) as refused:
        async for _ in preparation.prepare(asked(tmp_path)):
            pass
    assert refused.value.kind == "unavailable"
    assert f"{tmp_path}, cannot be written (Not a directory): make room there" in refused.value.sentence
