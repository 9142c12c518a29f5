"""Sentences out of a stream of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.speech.sentences import LONGEST, Sentences


def fed(text: str, size: int) -> list[str]:
    sentences = Sentences()
    out = [each for at in range(0, len(text), size) for each in sentences.feed(text[at : at + size])]
    return out + sentences.flush()


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("Mr. Smith pays 3.50 euros. Thanks!", ["Mr. Smith pays 3.50 euros.", "Thanks!"]),
        ('He said "go." Then left', ['He said "go."', "Then left"]),
        ("J. R. Ewing was here. So was I. Really", ["J. R. Ewing was here.", "So was I.", "Really"]),
        ("Wait... what?!  Yes\nNo", ["Wait...", "what?!", "Yes", "No"]),
        ("你好。我是一个人！", ["你好。", "我是一个人！"]),
        ("   ", []),
    ],
)
def test_a_sentence_ends_where_people_end_it(text: str, expected: list[str], size: int) -> None:
    assert fed(text, size) == expected


def test_a_sentence_is_told_as_soon_as_the_next_one_begins() -> None:
    sentences = Sentences()
    assert sentences.feed("One moment.") == []
    assert sentences.feed(" I") == ["One moment."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One moment", ""),
        ("One moment.", "One moment."),
        ("Dr.", ""),
        ("J.", ""),
        ("One. Two.", "Two."),
        ("", ""),
    ],
)
def test_a_sentence_that_lacks_only_the_space_behind_it_is_expected(text: str, expected: str) -> None:
    sentences = Sentences()
    sentences.feed(text)
    assert sentences.expected == expected
    assert sentences.flush() == ([text.removeprefix("One. ")] if text else [])


@given(st.text(alphabet="ab .,!?\n", max_size=3000), st.integers(1, 50))
def test_nothing_is_lost_and_nothing_is_too_long(text: str, size: int) -> None:
    out = fed(text, size)
    assert "".join("".join(out).split()) == "".join(text.split())
    assert all(len(each) <= LONGEST for each in out)
