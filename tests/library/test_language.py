"""What languages are called, here and elsewhere."""

from __future__ import annotations

import pytest

from visavis.language import service_language


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("en", "en"),
        ("de-AT", "de"),
        ("es_MX", "es"),
        ("cmn", "zh"),
        ("zh", "zh"),
        ("nb", "no"),
        ("yue", "yue"),
    ],
)
def test_services_are_told_the_language_as_they_know_it(tag: str, told: str) -> None:
    assert service_language(tag) == told
