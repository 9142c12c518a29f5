"""docs/library.md: its example does what it says, and its names are those of the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import visavis
from testing.card import read_card
from tests.support.avatar_client import portrait
from tests.support.servers import inference_server
from visavis.playout.player import FacePicture
from visavis.playout.playout import Picture

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"


def example(number: int) -> Callable[..., Any]:
    """The function of one of the page's examples."""
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[number], names)
    speak: Callable[..., Any] = names["speak"]
    return speak


@pytest.mark.process
async def test_the_face_says_what_it_is_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shown: list[tuple[FacePicture, NDArray[np.int16] | None]] = []
    pcm = np.random.default_rng(0).integers(-9000, 9000, 24_000, np.int16)
    async with inference_server(slots=2) as address:
        await example(0)(address, portrait(), pcm, lambda *both: shown.append(both))
    assert np.array_equal(np.concatenate([sound for _, sound in shown if sound is not None]), pcm)
    mouths: dict[int, float] = {}  # of each frame of the turn, where its sound is
    for picture, sound in shown:
        card = read_card(picture.pixels[: picture.height])
        if sound is not None and card is not None and card.mouth is not None:
            mouths.setdefault(card.mouth.frame, picture.position)
    assert len(mouths) >= 10
    assert {frame: round(position * 25) for frame, position in mouths.items()} == {k: k for k in mouths}


@pytest.mark.process
async def test_the_example_of_the_parts_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speak = example(1)
    monkeypatch.chdir(tmp_path)
    pictures: list[Picture] = []
    pcm = np.random.default_rng(0).integers(-9000, 9000, 16000, np.int16)
    async with inference_server(slots=2) as address:
        await speak(address, portrait(), pcm, pictures.append)
    indices = [p.loop_index for p in pictures]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert sum(p.frame is not None for p in pictures) >= 5


def test_every_public_name_is_on_the_page() -> None:
    assert not set(visavis.__all__) - set(re.findall(r"\w+", PAGE.read_text()))


def has(kind: type, name: str) -> bool:
    """An attribute of the class or of what it makes."""
    return (
        hasattr(kind, name)
        or name in inspect.signature(kind).parameters
        or f"self.{name}"
        in "".join(inspect.getsource(c) for c in kind.__mro__ if c.__module__.startswith("visavis."))
    )


def test_methods_and_fields_of_the_tables_exist() -> None:
    """Where classes head a section, first cells name methods of one; or a class, and the second its fields."""
    checked = 0
    for title, section in re.findall(r"^## (.*`.*)\n((?:(?!^## ).*\n)*)", PAGE.read_text(), re.MULTILINE):
        kinds = [getattr(visavis, name) for name in re.findall(r"`(\w+)`", title)]
        for first, second in re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE):
            names = re.findall(r"`(\w+)", first)
            if hasattr(visavis, names[0]):
                of = [getattr(visavis, names[0])]
                names = re.findall(r"`(\w+)`", second) if of[0] in kinds else []
            else:
                of, names = kinds, [name for name in names if name != "async"]
            for name in names:
                assert any(has(kind, name) for kind in of), (title, name)
                checked += 1
    assert checked > 50
