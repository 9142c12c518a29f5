"""Which numbers are left out of what is written down. The cards are the vendors' test numbers."""

from __future__ import annotations

import pytest

from orchestrator.conversation.unwritten import written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 4242424242424242.", "It is [number]."),
        ("It is 4242 4242 4242 4242, 12/34, thank you.", "It is [number], thank you."),
        ("Three seven eight two, 822463-10005.", "[number]."),
        ("So, " + "four two " * 8 + "is it", "So, [number] is it"),
        ("My number is 0171 2345678.", "My number is 0171 2345678."),
        ("Order 4242 4242 4242.", "Order 4242 4242 4242."),
        ("We are open from nine to six.", "We are open from nine to six."),
        ("0000000000000000", "0000000000000000"),
        ("0" * 100_000, "[number]"),
    ],
)
def test_numbers_of_cards_are_left_out(text: str, expected: str) -> None:
    assert written(text) == expected


def test_keys_that_are_read_back_are_left_out() -> None:
    said = "Thank you. We will call you on 0 7 9 1. Press one."
    assert written(said, ["0791", "1"]) == "Thank you. We will call you on [number]. Press one."
    assert written("It is oh seven nine one.", ["*0791"]) == "It is [number]."
