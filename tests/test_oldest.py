"""Lower bounds of dependencies: each has one, and pip is told of just that one by ``make test-oldest``."""

from __future__ import annotations

import tomllib

import pytest

from testing import oldest

EXTRAS = tomllib.loads(oldest.PYPROJECT.read_text())["project"]["optional-dependencies"]


def test_every_dependency_has_an_oldest_version() -> None:
    pins = oldest.oldest(list(EXTRAS))
    names = [pin.partition("==")[0] for pin in pins]
    assert len(set(names)) == len(names), "two lower bounds of one package"
    assert "protobuf==6.31.1" in pins and "roomkit==0.109" in pins


def test_one_without_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = oldest.PYPROJECT.read_text().replace('"httpx>=0.28,<1"', '"httpx<1"')

    class Changed:
        @staticmethod
        def read_text() -> str:
            return text

    monkeypatch.setattr(oldest, "PYPROJECT", Changed)
    with pytest.raises(ValueError, match="'httpx<1' names no oldest version"):
        oldest.oldest([])
