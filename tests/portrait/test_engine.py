"""The portrait engine, on the portrait that Visavis ships."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference_server.avatars.loop import face_mesh, make_loop
from inference_server.avatars.portrait.closing import LipWarp
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.lips import LOWER_INNER, UPPER_INNER, MouthWarp, Pose
from inference_server.engines.base import BodyLoop, Engine, EngineError, Prepared, Row
from inference_server.engines.portrait import PortraitEngine
from inference_server.engines.portrait.atlas import POSES, REST, blend, mix_of
from inference_server.engines.portrait.engine import PortraitTrack
from inference_server.engines.portrait.handle import PortraitHandle
from inference_server.engines.portrait.inner import draw_inner
from inference_server.engines.portrait.painter import Painter
from tests.support.portraits import IRIS
from visavis.frames import paste_i420
from visavis.rgb import to_rgb

FPS = Fraction(25)
SIZE = 384
Picture = NDArray[np.uint8]


@cache
def body() -> BodyLoop:
    image = load_image(IRIS.read_bytes())
    *_, loop = make_loop(image, body_id="b", width=SIZE, height=SIZE, fps=FPS, fit="crop")
    assert isinstance(loop, BodyLoop)
    return loop


@cache
def engine() -> PortraitEngine:
    made = PortraitEngine({})
    made.load(lambda share, sentence: None)
    return made


@cache
def prepared() -> Prepared:
    *steps, done = engine().prepare(body(), {})
    assert all(isinstance(s, float) and 0 <= s <= 1 for s in steps) and len(steps) >= len(POSES)
    assert isinstance(done, Prepared)
    return done


@cache
def handle() -> PortraitHandle:
    return engine().attach(prepared(), body())


def whole(mouth: tuple[float, float, float, float], index: int = 0, alpha: float = 1.0) -> Picture:
    """RGB of a body frame with a mouth drawn on it."""
    frame = body().frame(index).copy()
    mix = mix_of(*mouth, alpha)
    if mix is not None:
        out = bytearray(handle().rect(index).i420_size)
        rect = handle().draw(blend(handle().atlas, mix), index, memoryview(out))
        paste_i420(frame, SIZE, SIZE, rect, memoryview(out))
    return to_rgb(frame, SIZE, SIZE)


def measured(picture: Picture) -> tuple[float, float]:
    """Inner lip gap and width between the corners of the lips, in distances between the eyes."""
    (face,) = face_mesh().detect(picture, refine=2)
    p = face.points[:, :2]
    eyes = float(np.linalg.norm(p[33] - p[263]))
    gap = (p[list(LOWER_INNER[4:7]), 1] - p[list(UPPER_INNER[4:7]), 1]).mean()
    return float(gap) / eyes, float(np.linalg.norm(p[61] - p[291])) / eyes


def voice(seconds: float = 2.0) -> NDArray[np.int16]:
    """Syllables of a buzzing voice with pauses between them."""
    t = np.arange(int(16_000 * seconds)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 25))
    envelope = np.clip(np.sin(2 * np.pi * 3 * t), 0, 1)
    noise = np.random.default_rng(5).normal(0, 0.02, len(t))
    return np.asarray((buzz + noise) * envelope * 5000, np.int16)


def drawn(pieces: list[NDArray[np.int16]], origin: int = 0, fps: Fraction = FPS) -> list[bytes]:
    track = engine().track(handle(), fps, origin)
    shown: list[bytes] = []

    def render() -> None:
        while len(shown) < track.ready():
            k = len(shown)
            out = bytearray(handle().largest_rect.i420_size)
            results = engine().collect(engine().submit([Row(track, k, k, 1.0, memoryview(out))]), 0)
            assert results is not None
            rect = results[0].rect
            assert results[0].kind == ("body" if rect is None else "mouth")
            shown.append(b"" if rect is None else bytes(out[: rect.i420_size]))

    for piece in pieces:
        track.append(piece)
        render()
    track.end()
    render()
    return shown


def test_it_is_an_engine() -> None:
    made: Engine = engine()
    assert made.info.name == "portrait" and len(made.info.build) == 16
    assert 0 < made.info.look_ahead <= 3200
    assert made.memory().used <= made.memory().total


def test_prepared_is_plain_small_and_the_same_every_time() -> None:
    assert handle().nbytes <= 20_000_000
    assert all(isinstance(a, np.ndarray) and a.dtype == np.uint8 for a in prepared().arrays.values())
    *_, again = engine().prepare(body(), {})
    assert isinstance(again, Prepared) and again.meta == prepared().meta
    assert (again.arrays["atlas"] == prepared().arrays["atlas"]).all()


def test_rectangles_are_even_inside_and_constant() -> None:
    largest = handle().largest_rect
    for index in range(len(body())):
        rect = handle().rect(index)
        rect.validate(SIZE, SIZE)
        assert rect == handle().rect(index + len(body()))
        assert largest.x <= rect.x and rect.x + rect.width <= largest.x + largest.width
        assert largest.y <= rect.y and rect.y + rect.height <= largest.y + largest.height


def test_no_seam_at_the_edge_of_the_rectangle() -> None:
    for index in (0, 20, 95):
        rect = handle().rect(index)
        before = to_rgb(body().frame(index), SIZE, SIZE)
        after = whole((1.0, -0.5, 0.0, 0.0), index)
        inside = (slice(rect.y + 2, rect.y + rect.height - 2), slice(rect.x + 2, rect.x + rect.width - 2))
        change = np.abs(after.astype(int) - before).max(2)
        assert change[inside].max() > 60
        change[inside] = 0
        assert change.max() <= 6


def test_the_mouth_opens_as_it_is_told() -> None:
    gaps = [measured(whole((o, 0.0, 0.0, 0.0)))[0] for o in (0.25, 0.5, 0.75, 1.0)]
    assert gaps == sorted(gaps)
    assert gaps[-1] - gaps[0] > 0.05


def test_rounding_narrows_and_spreading_widens() -> None:
    narrow, plain, wide = (measured(whole((0.3, w, 0.0, 0.0)))[1] for w in (-1.0, 0.0, 1.0))
    assert narrow < 0.94 * plain and wide > 1.01 * plain


def test_lips_meet_for_a_bilabial_whatever_else_is_said() -> None:
    closed = measured(whole((0.9, 0.3, 1.0, 0.0)))[0]
    assert closed < measured(whole((0.5, 0.3, 0.0, 0.0)))[0] - 0.02
    mouth = MouthWarp(body().landmarks[0])
    lips = mouth.lips(Pose(press=1.0))
    assert np.abs(lips.lower_inner - lips.upper_inner).max() < 0.3


def test_teeth_show_over_the_lower_lip_for_f() -> None:
    x, y, w, h = handle().rect(0)
    before = whole((0.0, 0.0, 0.0, 0.0))[y : y + h, x : x + w].astype(int)
    change = whole((0.0, 0.0, 0.0, 1.0))[y : y + h, x : x + w].astype(int) - before
    assert (change.sum(2) > 60).sum() > 30


def test_rounded_lips_hide_the_teeth() -> None:
    painter = Painter(body().reference, body().landmarks[0], handle().region)
    size = (handle().region.width, handle().region.height)

    def brightest(opening: float, width: float) -> float:
        lips = painter.mouth.lips(Pose(opening, width))
        rounded = max(-width, 0.0)
        seen, mask = draw_inner(size, painter.mouth.frame, lips, painter.light, painter.teeth_line, rounded)
        return float(np.percentile(seen[mask > 0.9].mean(1), 98))

    assert brightest(0.3, 0.9) > 130
    assert max(brightest(0.3, -0.9), brightest(0.5, -0.7)) < 75


def test_the_ends_of_the_mouths_line_go_with_its_corners() -> None:
    lips = LipWarp(body().reference, body().landmarks[0], handle().region)
    bare = lips.without_ends(0.62)
    darker = bare.astype(int) - lips.patch
    assert darker.min() >= 0 and darker.max() > 20
    middle = lips.mouth.frame.to_pixels(lips.mouth.line[4:7])
    x0, x1 = int(middle[0, 0]), int(middle[-1, 0])
    assert (bare[:, x0:x1] == lips.patch[:, x0:x1]).all()


def test_rest_is_the_body_itself() -> None:
    assert mix_of(0.0, 0.0, 0.0, 0.0) is None
    assert mix_of(1.0, 1.0, 0.0, 0.0, alpha=0.0) is None
    assert POSES[REST] == Pose()


@given(*(st.floats(-2, 2) for _ in range(5)))
def test_any_mouth_is_a_mixture(opening: float, width: float, press: float, fv: float, alpha: float) -> None:
    mix = mix_of(opening, width, press, fv, min(max(alpha, 0.0), 1.0))
    if mix is not None:
        assert abs(sum(mix.weights) - 1) < 1e-6 and min(mix.weights) > 0
        assert all(0 <= p < len(POSES) for p in mix.poses)


def test_a_small_change_of_the_mouth_is_a_small_change_of_the_picture() -> None:
    steps = [whole((o, 0.2, 0.0, 0.0)).astype(int) for o in np.linspace(0, 0.6, 13)]
    jumps = [float(np.abs(b - a).mean()) for a, b in pairwise(steps)]
    assert max(jumps) < 1.2


def test_alpha_ramps_to_the_body() -> None:
    body_picture = whole((0.0, 0.0, 0.0, 0.0)).astype(int)
    away = [
        np.abs(whole((0.8, 0, 0, 0), 0, a).astype(int) - body_picture).mean() for a in (1.0, 0.66, 0.33, 0.0)
    ]
    assert away == sorted(away, reverse=True) and away[-1] == 0


def test_a_voice_moves_the_mouth_and_silence_does_not() -> None:
    shown = drawn([voice()])
    assert len(shown) == 50
    assert sum(bool(p) for p in shown) > 15
    assert not any(drawn([np.zeros(16_000, np.int16)]))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 9000), max_size=12))
def test_any_chunking_gives_the_same_bits(cuts: list[int]) -> None:
    pcm = voice(1.2)
    places = [c for c in np.cumsum(cuts) if c < len(pcm)]
    assert drawn(np.split(pcm, places)) == drawn([pcm])


def test_one_millisecond_pieces_and_thirty_frames() -> None:
    pcm = voice(0.6)
    assert drawn(np.split(pcm, range(16, len(pcm), 16)), fps=Fraction(30)) == drawn([pcm], fps=Fraction(30))


def test_a_closed_track_yields_nothing_and_does_not_fail() -> None:
    track = engine().track(handle(), FPS, 0)
    assert isinstance(track, PortraitTrack)
    track.append(voice(0.5))
    track.close()
    track.append(voice(0.1))
    track.end()
    assert track.ready() == 0
    results = engine().collect(engine().submit([Row(track, 3, 0, 1.0, memoryview(bytearray(10)))]), 0)
    assert results is not None and results[0].kind == "body"


def test_memory_follows_attaching() -> None:
    before = engine().memory().used
    extra = engine().attach(prepared(), body())
    assert engine().memory().used == before + extra.nbytes
    engine().detach(extra)
    engine().detach(extra)
    assert engine().memory().used == before


@pytest.mark.parametrize("size", [(128, 128), (640, 360), (300, 300)])
def test_other_sizes(size: tuple[int, int]) -> None:
    image = load_image(IRIS.read_bytes())
    *_, loop = make_loop(image, body_id="s", width=size[0], height=size[1], fps=Fraction(2), fit="crop")
    assert isinstance(loop, BodyLoop)
    *_, done = engine().prepare(loop, {})
    assert isinstance(done, Prepared) and done.nbytes <= 20_000_000
    placed = engine().attach(done, loop)
    for index in range(len(loop)):
        placed.rect(index).validate(*size)
        out = bytearray(placed.rect(index).i420_size)
        mix = mix_of(0.6, -0.2, 0.0, 0.1)
        assert mix is not None
        placed.draw(blend(placed.atlas, mix), index, memoryview(out))
        assert any(out)
    engine().detach(placed)


def test_a_setting_that_it_has_not_is_refused_with_those_it_has() -> None:
    with pytest.raises(EngineError, match="has no setting 'gian'; it has gain, memory_mb"):
        PortraitEngine({"gian": "2"})
    assert PortraitEngine({"gain": "2"}).info.avatar_settings == ()
