"""Phones that cannot ask for a key frame: the picture mends itself."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from orchestrator.media.parameters import Encoding, VideoParameters
from orchestrator.media.video.encoder import H264Encoder, parameter_sets
from orchestrator.media.video.idle_loop import encode_phases, idle_key
from orchestrator.rtp import h264
from testing.h264 import annex_b
from tests.support.media import card, card_body

SIZE = (192, 128)
SECOND = 10
WAVES = Encoding(*SIZE, Fraction(SECOND), 500_000, 12, wave=SECOND)


def coded(encoding: Encoding, count: int) -> list[list[bytes]]:
    """A picture that moves a little all the time; one IDR at the start."""
    encoder, units = H264Encoder(encoding), []
    for number in range(count):
        picture = card(number)
        picture[30 : SIZE[1], :] = np.roll(picture[30 : SIZE[1], :], number, axis=1)
        encoder.write(picture)
        units.append(encoder.encode(idr=number == 0))
    return units


def shown(units: list[list[bytes]]) -> list[np.ndarray]:
    """What a phone shows that decodes whatever comes."""
    decoder = av.CodecContext.create("h264", "r")
    pictures = []
    for each in units:
        pictures += decoder.decode(av.Packet(annex_b(each)))
    pictures += decoder.decode(None)
    return [picture.to_ndarray()[: SIZE[1]].astype(int) for picture in pictures]


@pytest.mark.parametrize("wave", [SECOND, 0])
def test_a_lost_picture_is_mended_within_two_waves(wave: int) -> None:
    units = coded(replace(WAVES, wave=wave), 45)
    assert [number for number, each in enumerate(units) if h264.is_idr(each)] == [0]
    whole, gap = shown(units), shown(units[:12] + units[13:])
    differences = [int(np.abs(a - b).max()) for a, b in zip(whole[13:], gap[12:], strict=True)]
    assert differences[0] > 8
    mended = max(differences[2 * SECOND :]) == 0
    assert mended == bool(wave)


def test_recovery_points_are_told_and_nothing_else() -> None:
    kinds = {h264.nal_type(unit) for units in coded(WAVES, 25) for unit in units}
    assert kinds == {h264.SPS, h264.PPS, h264.IDR, h264.SLICE, h264.SEI}
    assert h264.SEI not in {
        h264.nal_type(unit) for units in coded(replace(WAVES, wave=0), 25) for unit in units
    }


def test_a_forced_key_frame_is_one_within_waves_and_joins_the_idle_loop() -> None:
    encoder = H264Encoder(WAVES)
    encoder.write(card(1))
    first, *_, last = [encoder.encode(idr=number in (0, 7)) for number in range(8)]
    assert h264.is_idr(last) and parameter_sets(first) == parameter_sets(last)
    body = card_body(20)
    video = VideoParameters(
        96, ("127.0.0.1", 9), *SIZE, fps=Fraction(SECOND), bitrate=500_000, refresh="intra"
    )
    key = idle_key(body, video)
    assert key.encoding.wave == SECOND and not key.periodic
    sets = {parameter_sets(each) for phase in encode_phases(body, key) for each in phase if h264.is_idr(each)}
    live = H264Encoder(video.encoding)
    live.write(card(1))
    assert sets == {parameter_sets(live.encode(idr=True))}


def test_who_gets_what() -> None:
    phone = VideoParameters(96, ("127.0.0.1", 9), *SIZE, refresh="intra")
    assert (phone.intra_refresh, phone.key_interval, phone.encoding.wave) == (True, 125, 25)
    plain = replace(phone, refresh="keyframes")
    assert (plain.intra_refresh, plain.key_interval, plain.encoding.wave) == (False, 25, 0)
    asks = replace(phone, feedback=frozenset({"ccm fir"}))
    assert (asks.intra_refresh, asks.key_interval, asks.encoding.wave) == (False, 0, 0)
