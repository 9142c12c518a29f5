"""Folders with a budget of bytes: the least recently used goes first."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from visavis.service.byte_budget import Entry, beyond_budget, entries


def test_files_of_a_folder_by_their_last_use(tmp_path: Path) -> None:
    for number, name in enumerate("cab"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (number, number))
    there = [*entries([*tmp_path.iterdir(), tmp_path / "gone"])]
    assert sum(entry.size for entry in there) == 300
    assert [path.name for path in beyond_budget(there, 299)] == ["c"]
    assert [path.name for path in beyond_budget(there, 0)] == ["c", "a", "b"]
    assert [path.name for path in beyond_budget(there, 100, {tmp_path / "c"})] == ["a", "b"]
    assert not list(beyond_budget(there, 300))


@given(
    st.lists(st.tuples(st.floats(0, 9), st.integers(0, 50), st.booleans()), max_size=12),
    st.integers(0, 300),
)
def test_what_stays_fits_or_is_wanted(files: list[tuple[float, int, bool]], most: int) -> None:
    there = [Entry(used, size, Path(str(n))) for n, (used, size, _) in enumerate(files)]
    keep = {entry.path for entry, (_, _, wanted) in zip(there, files, strict=True) if wanted}
    gone = list(beyond_budget(there, most, keep))
    assert not keep & set(gone)
    left = [entry for entry in there if entry.path not in gone]
    assert sum(entry.size for entry in left) <= most or {entry.path for entry in left} <= keep
    if gone:  # not one too many went, and nobody older stayed
        last = there[int(gone[-1].name)]
        assert sum(entry.size for entry in left) + last.size > most
        assert all(entry >= last for entry in left if entry.path not in keep)
