"""Log-mel, speech windows and silence: the same for the same audio however it is cut."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from inference_server.engines.musetalk import mel
from inference_server.engines.musetalk.encoder import SpeechEncoder
from inference_server.engines.musetalk.mel import LogMel
from inference_server.engines.musetalk.speech import HISTORY, Plan, Speech, feature_of
from tests.musetalk.reference import log_mel
from tests.musetalk.support import speech

pytestmark = pytest.mark.torch

PCM = speech(2.0, seed=4)
SILENCE = np.zeros(16_000, np.int16)


def whole_clip(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """``(3000, 80)`` of at most 30 s as Whisper itself computes it: padded with silence, one maximum."""
    samples = np.zeros(30 * mel.RATE)
    samples[: len(pcm)] = pcm / 32768.0
    padded = np.pad(samples, mel.WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, mel.WINDOW)[:: mel.HOP][:3000]
    logs = mel.decades(np.ascontiguousarray(windows))
    return mel.scale(logs, float(logs.max()))


def test_whole_clip_is_whispers_own() -> None:
    theirs = WhisperFeatureExtractor()(
        PCM / 32768.0, sampling_rate=16_000, return_tensors="np"
    ).input_features
    assert np.abs(whole_clip(PCM).T - theirs[0]).max() < 1e-4


def test_hops_equal_the_formula() -> None:
    grown = LogMel()
    grown.append(PCM[:8000])
    wanted = log_mel(PCM[:8000], 44)
    assert np.abs(grown.window(0, 44, 0) - wanted).max() < 1e-4


@given(st.lists(st.integers(0, 5000), max_size=12), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_bits_do_not_depend_on_the_cuts(sizes: list[int], origin: int) -> None:
    whole, cut = LogMel(origin * 777), LogMel(origin * 777)
    whole.append(PCM)
    at = 0
    for size in [*sizes, len(PCM)]:
        cut.append(PCM[at : at + size])
        at = min(at + size, len(PCM))
    assert cut.end == whole.end
    assert np.array_equal(cut.window(0, cut.end, 7), whole.window(0, whole.end, 7))
    assert np.array_equal(cut.loud(0, cut.end), whole.loud(0, whole.end))


@given(st.lists(st.integers(1, 4000), max_size=20), st.sampled_from([25, 30, 24, 15, 50, 10, 5]))
@settings(max_examples=20, deadline=None)
def test_what_a_frame_hears_does_not_depend_on_arrival(sizes: list[int], fps: int) -> None:
    late = Speech(Plan(), Fraction(fps))
    late.append(PCM)
    late.end()
    wanted = [(late.hear(f), late.opening(f)) for f in range(late.ready())]
    early = Speech(Plan(), Fraction(fps))
    done = at = 0
    for size in [*sizes, len(PCM)]:
        early.append(PCM[at : at + size])
        at = min(at + size, len(PCM))
        if at == len(PCM):
            early.end()
        for f in range(done, early.ready()):
            heard, opening = early.hear(f), early.opening(f)
            assert opening == wanted[f][1]
            assert np.array_equal(heard.mel, wanted[f][0].mel)
            assert (heard.first, heard.position) == (wanted[f][0].first, wanted[f][0].position)
            window = Plan().window
            assert min(heard.valid[1], window.stop) == min(wanted[f][0].valid[1], window.stop)
        done = max(done, early.ready())
    assert done == len(wanted) == late.frames


def test_first_frame_needs_140_ms() -> None:
    heard = Speech(Plan(), Fraction(25))
    heard.append(PCM[:2239])
    assert heard.ready() == 0
    heard.append(PCM[2239:2240])
    assert heard.ready() == 1
    assert Plan().after == 1600
    assert Plan(right=10).after == 3200


@pytest.mark.parametrize("fps", [20, 24, 25, 30])
def test_other_rates_are_not_shifted(fps: int) -> None:
    """The window begins two features before the frame's own 40 ms at every rate."""
    for f in range(40):
        assert abs(feature_of(f, Fraction(fps)) * 20 - 1000 * f / fps) < 20
    made = Speech(Plan(), Fraction(fps))
    made.append(PCM)
    own = feature_of(30, Fraction(fps))
    heard = made.hear(30)
    assert heard.first == HISTORY - own
    assert Plan().window.start == HISTORY - 4
    known = LogMel()
    known.append(PCM)
    place = 2 * (own - 4)
    stop = 2 * own + 13
    assert np.array_equal(heard.mel[2 * (HISTORY - 4) : -7], known.window(place, stop, 0))


def test_positions_run_and_stop_at_the_last() -> None:
    long = Speech(Plan(), Fraction(25))
    noise = speech(1.0)
    for _ in range(40):
        long.append(noise)
    positions = [long.hear(f).position for f in (0, 100, 125, 300, 700, 900)]
    assert positions == [0, 0, 0, 350, 1150, 1500 - 260]


def test_history_is_five_seconds_and_older_audio_is_forgotten() -> None:
    long = Speech(Plan(), Fraction(25))
    noise = speech(1.0)
    for _ in range(40):
        long.append(noise)
    before = long.hear(900).mel
    long.forget_before(900)
    assert np.array_equal(long.hear(900).mel, before)
    assert long.hear(800) is not None  # five seconds back are kept: frames may be drawn again
    with pytest.raises(ValueError, match="not kept"):
        long.hear(300)


def test_a_turn_resumed_from_the_middle_hears_the_same() -> None:
    pcm = np.concatenate([speech(1.0, seed=s) for s in range(12)])
    whole = Speech(Plan(), Fraction(25))
    whole.append(pcm)
    origin = 16_000 * 5
    resumed = Speech(Plan(), Fraction(25), origin)
    resumed.append(pcm[origin:])
    assert resumed.ready() == whole.ready()
    frame = 11 * 25
    ours, theirs = resumed.hear(frame), whole.hear(frame)
    assert (ours.first, ours.position) == (theirs.first, theirs.position)
    # The running maximum began later; where it is the same the mel is too.
    assert np.abs(ours.mel - theirs.mel).mean() < 0.02


def test_end_is_flushed_with_silence_and_zero_features() -> None:
    made = Speech(Plan(), Fraction(25))
    made.append(PCM[:6400])  # ten frames
    assert made.ready() == 7
    made.end()
    assert made.ready() == made.frames == 10
    heard = made.hear(9)
    assert heard.valid == (HISTORY - 18, HISTORY + 2)  # features 0 to 20 exist
    made.append(PCM)  # after the end: ignored
    assert made.frames == 10
    assert made.hear(12).valid[1] == HISTORY - 4  # nothing left in the window of a closing frame


def test_silence_closes_the_mouth_and_short_pauses_do_not() -> None:
    voice, pause, gap = speech(0.4), SILENCE[: 16 * 900], np.concatenate((SILENCE, SILENCE))
    made = Speech(Plan(), Fraction(25))
    made.append(np.concatenate([voice, pause, voice, gap, voice]))
    made.end()
    opening = [made.opening(f) for f in range(made.frames)]
    end = 42  # of the second word, after 0.9 s of silence
    assert min(opening[:end]) == 1.0
    first, last = opening.index(0.0), len(opening) - opening[::-1].index(0.0)
    assert (first - end) * 40 >= 1000
    assert set(opening[first:last]) == {0.0}
    assert end + 46 < last <= end + 51  # opens before the sound
    fall = opening[end : first + 1]
    assert fall == sorted(fall, reverse=True)
    assert len([a for a in fall if 0 < a < 1]) >= 2
    rise = opening[last - 1 : end + 52]
    assert rise == sorted(rise)
    assert len([a for a in rise if 0 < a < 1]) >= 1


def test_silence_from_the_start_is_rest() -> None:
    made = Speech(Plan(), Fraction(25))
    made.append(SILENCE)
    assert {made.opening(f) for f in range(made.ready())} == {0.0}


def tiny_encoder() -> tuple[WhisperEncoder, SpeechEncoder]:
    torch.manual_seed(0)
    config = WhisperConfig(d_model=24, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=48)
    config._attn_implementation = "sdpa"
    whisper = WhisperEncoder(config).eval()
    return whisper, SpeechEncoder(whisper, Plan().window)


@torch.inference_mode()
def test_encoder_equals_transformers_over_the_whole_clip() -> None:
    whisper, ours = tiny_encoder()
    x = torch.from_numpy(whole_clip(PCM).T.copy())[None]
    theirs = torch.stack(whisper(x, output_hidden_states=True).hidden_states, dim=2)
    zero = torch.zeros(1, dtype=torch.int64)
    assert (ours.features(x, zero, zero, zero) - theirs).abs().max() < 1e-5


@torch.inference_mode()
def test_masked_beginning_equals_a_shorter_run() -> None:
    _, ours = tiny_encoder()
    made = Speech(Plan(), Fraction(25))
    made.append(PCM)
    heard = made.hear(20)
    whole = torch.from_numpy(heard.mel.T.copy())[None]
    first, position = torch.tensor([heard.first]), torch.tensor([heard.position])
    zero = torch.zeros(1, dtype=torch.int64)
    masked = ours.features(whole, first, position, zero)[:, heard.first :]
    short = ours.features(whole[..., 2 * heard.first :], zero, zero, zero)
    assert (masked - short).abs().max() < 1e-5


@torch.inference_mode()
def test_what_is_not_there_yet_is_as_if_the_run_ended_before_it() -> None:
    _, ours = tiny_encoder()
    plan = Plan(further=30)
    made = Speech(plan, Fraction(25))
    made.append(PCM[: 16 * 1060])  # 21 frames, and 120 ms beyond what the last one waits for
    heard = made.hear(20)
    assert heard.missing == 10
    whole = torch.from_numpy(heard.mel.T.copy())[None]
    table = [torch.tensor([n]) for n in (heard.first, heard.position, heard.missing)]
    short = ours.features(whole[..., : -2 * heard.missing], *table[:2], torch.tensor([0]))
    masked = ours.features(whole, *table)[:, : -heard.missing]
    assert (masked - short).abs().max() < 1e-5


def test_a_frame_uses_the_audio_after_it_that_is_there() -> None:
    """In steps of 100 ms up to the most; that of a voice in real time is what it waits for."""
    plan = Plan(further=30)
    missing = []
    for ahead in (0, 90, 120, 250, 330, 1000):
        made = Speech(plan, Fraction(25))
        made.append(PCM[: 16 * (840 + 100 + ahead)])
        assert made.ready() > 20
        missing.append(made.hear(20).missing)
    assert missing == [15, 15, 10, 5, 0, 0]
    made = Speech(plan, Fraction(25))
    made.append(PCM[: 16 * 940])
    made.end()
    assert made.hear(20).missing == 0  # the silence after the end is known


def test_the_level_of_earlier_turns_is_the_least_maximum() -> None:
    quiet = (PCM // 22).astype(np.int16)  # 27 dB down
    first = Speech(Plan(), Fraction(25))
    first.append(PCM)
    second = Speech(Plan(), Fraction(25))
    second.expect(first.level)
    second.append(quiet)
    wanted = mel.scale(mel.decades(np.zeros((1, 400))), first.level)[0, 0]
    assert second.hear(5).mel[-1, 0] == pytest.approx(wanted, abs=1e-5)  # silence is 8 decades below that
    assert second.level == pytest.approx(first.level - 2 * np.log10(22), abs=0.1)


@torch.inference_mode()
def test_window_of_features_is_time_then_depth() -> None:
    _, ours = tiny_encoder()
    window = torch.arange(50 * 24, dtype=torch.float32).view(1, 10, 5, 24)
    flat = ours.tokens(window) - ours.encoding
    assert torch.allclose(flat[0, 13], window[0, 2, 3])
    heard = ours.features(torch.randn(1, 80, Plan().hops), *[torch.tensor([0])] * 3)
    table = (torch.tensor([0]), torch.tensor([0]))
    torch.manual_seed(1)
    x = torch.randn(1, 80, Plan().hops)
    low, high = torch.tensor([HISTORY - 1]), torch.tensor([HISTORY + 2])
    tokens = ours(x, *table, low, high, torch.tensor([0])) - ours.encoding
    silent = [n for n in range(50) if not (3 <= n // 5 < 6)]
    assert tokens[0, silent].abs().max() < 1e-6
    assert (tokens[0, 15:30] != 0).any()
    assert heard.shape == (1, 260, 5, 24)
