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
        ("The fee is 5, for 5555555555554444 1227.", "The fee is 5, for [number]."),
        ("It is " + "double five, " * 6 + "double four, double four.", "It is [number]."),
        ("٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "[number]"),
        ("0" * 100_000, "[number]"),
    ],
)
def test_numbers_of_cards_are_left_out(text: str, expected: str) -> None:
    assert written(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "In 1967, 2022, 1958, 1982.",
        "They are 3.50, 45.50, 39.95, 11.99.",
        "It is 0044 20 9366 8536.",
        "Or +49 1522 3456786.",
        "Call 0183 4704204, 0163 9024173.",
        "At 2024-10-23 15:40:38.",
        "I want one double room, two please.",
    ],
)
def test_years_prices_times_and_telephone_numbers_are_written_down(text: str) -> None:
    """Among so many digits there is mostly a row whose sum is right by chance."""
    assert written(text) == text


def test_keys_that_are_read_back_are_left_out() -> None:
    said = "Thank you. We will call you on 0 7 9 1. Press one."
    assert written(said, ["0791", "1"]) == "Thank you. We will call you on [number]. Press one."
    assert written("It is oh seven nine one.", ["*0791"]) == "It is [number]."
