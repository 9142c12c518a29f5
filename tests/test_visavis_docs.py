"""The example of docs/library.md does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.avatar_client import portrait
from support.servers import inference_server

from visavis.playout import Picture

PAGE = Path(__file__).resolve().parents[1] / "docs" / "library.md"


async def test_the_example_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    speak: Callable[..., Any] = names["speak"]
    monkeypatch.chdir(tmp_path)
    pictures: list[Picture] = []
    pcm = np.random.default_rng(0).integers(-9000, 9000, 16000, np.int16)
    async with inference_server(slots=2) as address:
        await speak(address, portrait(), pcm, pictures.append)
    indices = [p.loop_index for p in pictures]
    assert indices == list(range(indices[0], indices[0] + len(indices)))
    assert sum(p.frame is not None for p in pictures) >= 5
