"""The channel's own arguments."""

from __future__ import annotations

import pytest
from roomkit.voice.backends.mock import MockVoiceBackend

from visavis import AvatarVideoChannel, MockAvatarProvider


def channel(**options: float) -> AvatarVideoChannel:
    return AvatarVideoChannel(
        "voice",
        backend=MockVoiceBackend(),
        avatar_factory=lambda _: MockAvatarProvider(),
        encoder_factory=lambda _: None,
        **options,
    )


def test_the_former_name_of_the_voices_delay_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="use voice_delay_s") as told:
        former = channel(lead_s=0.2)
    assert told[0].filename == __file__
    assert former._voice_delay_s == channel(voice_delay_s=0.2)._voice_delay_s == 0.2
    assert channel()._voice_delay_s == 0.4
