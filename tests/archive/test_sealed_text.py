"""Texts that are encrypted at rest."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.app import App
from orchestrator.archive.sealed_text import SealedTexts, Unreadable
from orchestrator.config import Settings
from tests.archive.support import said
from tests.support.waiting import until

KEY = b"k" * 32


def test_a_text_comes_back_and_no_two_are_alike() -> None:
    texts = SealedTexts(KEY)
    one, two = (texts.seal("Gr\u00fc\u00dfe.", "c1", 1) for _ in range(2))
    assert one != two and texts.open(one, "c1", 1) == texts.open(two, "c1", 1) == "Gr\u00fc\u00dfe."
    assert texts.open(texts.seal("", "c1", 2), "c1", 2) == ""


@pytest.mark.parametrize(("call_id", "number"), [("c1", 2), ("c2", 1), ("c1\x001", 1)])
def test_a_text_is_readable_in_its_own_row_only(call_id: str, number: int) -> None:
    texts = SealedTexts(KEY)
    with pytest.raises(Unreadable, match="or it was changed"):
        texts.open(texts.seal("Hello.", "c1", 1), call_id, number)


def test_a_text_that_was_changed_or_cut_is_told_so() -> None:
    texts = SealedTexts(KEY)
    sealed = texts.seal("Hello.", "c1", 1)
    for broken in (sealed[:-6], sealed[:11], sealed + "!", sealed[:-4] + "AAA=", sealed[:12] + "\u00fc"):
        with pytest.raises(Unreadable, match="cannot be decrypted"):
            texts.open(broken, "c1", 1)


def test_another_key_and_none_are_sentences() -> None:
    sealed = SealedTexts(KEY).seal("Hello.", "c1", 1)
    with pytest.raises(Unreadable, match="names another key"):
        SealedTexts(b"x" * 32).open(sealed, "c1", 1)
    with pytest.raises(Unreadable, match="names no key"):
        SealedTexts(None).open(sealed, "c1", 1)


def test_nobody_can_say_something_that_looks_encrypted() -> None:
    sealed = SealedTexts(KEY).seal("Hello.", "c1", 1)
    for texts in (SealedTexts(None), SealedTexts(KEY)):
        assert texts.open(texts.seal(sealed, "c1", 2), "c1", 2) == sealed.lstrip("\x01")


async def test_the_key_file_of_recordings_encrypts_what_an_orchestrator_keeps(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY)
    app = App(Settings(data_dir=tmp_path / "data", recording_key_file=file))
    app.archive.start(app.supervisor)
    app.archive.keep_entry("c1", said(1, "my diagnosis is a secret", time.time()))
    await until(lambda: app.archive.status.state == "ready" and app.archive.status.waiting == 0)
    await app.archive.close()
    await app.supervisor.close()
    kept = b"".join(each.read_bytes() for each in (tmp_path / "data").iterdir() if each.is_file())
    assert b"c1" in kept and b"diagnosis" not in kept
