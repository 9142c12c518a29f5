"""WAV files as programs write them."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from orchestrator.rtp.codecs import G711
from orchestrator.speech.base import PCM
from visavis.wav import WavError, WavReader

TONE = np.rint(12_000 * np.sin(2 * np.pi * 440 * np.arange(800) / 8000)).astype(np.int16)
LAW = {6: G711("PCMA"), 7: G711("PCMU")}
SUBTYPE = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes, *, pad: bytes = b"\0") -> bytes:
    return name + struct.pack("<I", len(body)) + body + pad * (len(body) % 2)


def wav(form: bytes, sound: bytes, *before: bytes) -> bytes:
    body = b"WAVE" + b"".join(before) + chunk(b"fmt ", form) + chunk(b"data", sound)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def plain(kind: int, bits: int, channels: int = 1) -> bytes:
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", kind, channels, 8000, 8000 * frame, frame, bits)


def extensible(kind: int, bits: int, channels: int = 1, tail: bytes = SUBTYPE) -> bytes:
    return plain(0xFFFE, bits, channels) + struct.pack("<HHIH", 22, bits, 4, kind) + tail


def read(data: bytes, piece: int = 1 << 16) -> PCM:
    reader = WavReader()
    out = [reader.feed(data[at : at + piece]) for at in range(0, len(data), piece)]
    reader.end()
    return np.concatenate(out)


@pytest.mark.parametrize("kind", [6, 7])
@pytest.mark.parametrize("form", [plain, extensible])
@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_mu_law_and_a_law(kind: int, form: object, piece: int) -> None:
    assert callable(form)
    got = read(wav(form(kind, 8), LAW[kind].encode(TONE)), piece)
    assert len(got) == len(TONE) and np.abs(got.astype(int) - TONE).max() < 600


def test_mu_law_in_two_channels() -> None:
    coded = np.repeat(np.frombuffer(LAW[7].encode(TONE), np.uint8), 2).tobytes()
    assert np.abs(read(wav(extensible(7, 8, 2), coded)).astype(int) - TONE).max() < 600


def test_extensible_pcm_stays_what_it_was() -> None:
    assert np.array_equal(read(wav(extensible(1, 16), TONE.tobytes())), TONE)
    assert np.array_equal(read(wav(plain(0xFFFE, 16), TONE.tobytes())), TONE)  # without the extension


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
@pytest.mark.parametrize("bits", [24, 32])
def test_pcm_of_more_bits(bits: int, piece: int) -> None:
    wide = (TONE.astype(np.int32) << 16).astype("<i4").view(np.uint8).reshape(-1, 4)
    assert np.array_equal(read(wav(extensible(1, bits), wide[:, 4 - bits // 8 :].tobytes()), piece), TONE)


def test_floating_point() -> None:
    sound = np.array([0, 0.5, -0.5, 1, -1, 7, -7, np.nan, np.inf, -np.inf], "<f4")
    got = read(wav(plain(3, 32), sound.tobytes())).tolist()
    assert got == [0, 16_383, -16_383, 32_767, -32_767, 32_767, -32_767, 0, 32_767, -32_767]


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (extensible(3, 16), "16 bits"),
        (plain(3, 64), "64 bits"),
        (extensible(2, 8), "ADPCM"),
        (plain(0x11, 8), "ADPCM"),
        (plain(0x55, 8), "MP3"),
        (extensible(1, 16, tail=bytes(14)), "unknown format"),
        (plain(7, 16), "16 bits"),
        (extensible(1, 20), "20 bits"),
    ],
)
def test_other_formats_are_refused_by_name(form: bytes, says: str) -> None:
    with pytest.raises(WavError, match=f"{says}.*send 16-bit PCM"):
        read(wav(form, bytes(100)))


@given(form=st.binary(min_size=14, max_size=48), sound=st.binary(max_size=300), piece=st.integers(1, 400))
def test_nothing_but_a_sentence_comes_of_hostile_files(form: bytes, sound: bytes, piece: int) -> None:
    for data in (wav(form, sound), wav(plain(1, 16), sound, form), b"RIFF\0\0\0\0WAVE" + sound):
        with contextlib.suppress(WavError):
            assert read(data, piece).dtype == np.int16


@pytest.mark.parametrize("piece", [1, 5, 1 << 16])
@pytest.mark.parametrize("pad", [b"", b"\0", b" ", b"\xff"])
@pytest.mark.parametrize("name", [b"LIST", b"bext", b"abcd"])
def test_chunks_of_an_odd_size_with_and_without_their_pad_byte(name: bytes, pad: bytes, piece: int) -> None:
    data = wav(plain(1, 16), TONE.tobytes(), chunk(name, b"INFOabcdefghi", pad=pad))
    assert np.array_equal(read(data, piece), TONE)


@pytest.mark.parametrize("length", [0x41414141, 0x64])
def test_an_unpadded_chunk_right_before_the_sound(length: int) -> None:
    """The size that follows the name may read as letters as well."""
    body = b"WAVE" + chunk(b"fmt ", plain(1, 16)) + chunk(b"LIST", b"abc", pad=b"")
    data = b"RIFF\0\0\0\0" + body + b"data" + struct.pack("<I", length) + TONE.tobytes()
    assert len(read(data)) == min(length // 2, len(TONE))


def test_a_format_of_an_odd_size() -> None:
    for pad in (b"", b"\0"):
        body = b"WAVE" + chunk(b"fmt ", plain(1, 16) + b"\0\0\0", pad=pad) + chunk(b"data", TONE.tobytes())
        assert np.array_equal(read(b"RIFF\0\0\0\0" + body), TONE)


def test_sound_in_odd_pieces_and_an_odd_byte_at_the_end() -> None:
    assert np.array_equal(read(wav(plain(1, 16), TONE.tobytes() + b"\x55"), 3), TONE)
