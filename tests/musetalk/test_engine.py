"""The engine's promises: batches, rest, closing frames, memory, errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from inference_server.engines.base import (
    BatchFailed,
    EngineDead,
    EngineError,
    Handle,
    NoMemory,
    Prepared,
    Result,
    Row,
)
from inference_server.engines.musetalk import MuseTalkEngine, face, prepare
from inference_server.engines.musetalk.network import LipNetwork
from inference_server.engines.musetalk.slab import Slab
from tests.musetalk.support import body, draw, loaded, prepared, said, settings, speech
from visavis.frames import crop_i420

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def engine() -> MuseTalkEngine:
    return loaded()


@pytest.fixture(scope="module")
def made(engine: MuseTalkEngine) -> Prepared:
    return prepared(engine, body())


@pytest.fixture
def handle(engine: MuseTalkEngine, made: Prepared) -> Handle:
    return engine.attach(made, body())


def levels(a: bytes, b: bytes) -> np.ndarray:
    return np.abs(np.frombuffer(a, np.uint8).astype(int) - np.frombuffer(b, np.uint8))


def test_progress_ends_at_one_and_names_buckets() -> None:
    told: list[tuple[float, str]] = []
    engine = MuseTalkEngine(settings())
    with pytest.raises(EngineError, match="not loaded"):
        _ = engine.info
    engine.load(lambda progress, sentence: told.append((progress, sentence)))
    assert [p for p, _ in told] == sorted(p for p, _ in told)
    assert told[-1][0] == 1.0
    assert engine.info.buckets == (1, 2, 4)
    assert sum("warming up" in s for _, s in told) == 3
    assert engine.info.look_ahead == 1600
    assert engine.info.history == 80_000
    assert all(engine.cost_ms(n) > 0 for n in (1, 2, 3, 4))


def test_rows_of_one_bucket_are_bit_equal_however_mixed(engine: MuseTalkEngine, handle: Handle) -> None:
    a, b = said(engine, handle, speech(1.0, 1)), said(engine, handle, speech(1.0, 2))
    _, of_a = draw(engine, handle, a, [3, 9, 14, 20])
    _, of_b = draw(engine, handle, b, [3, 9, 14, 20])
    outs = [bytearray(handle.rect(i).i420_size) for i in (20, 3, 14, 9)]
    rows = [
        Row(track, frame, frame, 1.0, memoryview(out))
        for track, frame, out in zip((b, a, a, b), (20, 3, 14, 9), outs, strict=True)
    ]
    assert engine.collect(engine.submit(rows), 1.0) is not None
    assert [bytes(o) for o in outs] == [of_b[3], of_a[0], of_a[2], of_b[1]]


def test_buckets_agree_in_float32(engine: MuseTalkEngine, handle: Handle) -> None:
    track = said(engine, handle, speech())
    alone = [draw(engine, handle, track, [f])[1][0] for f in range(20)]
    together = [p for at in range(0, 20, 4) for p in draw(engine, handle, track, range(at, at + 4))[1]]
    off = levels(b"".join(alone), b"".join(together))
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.001


def test_avatars_of_different_sizes_share_a_batch(engine: MuseTalkEngine, handle: Handle) -> None:
    loop = body(3, width=320, height=256, wide=120)
    other = engine.attach(prepared(engine, loop), loop)
    assert other.rect(0)[2:] != handle.rect(0)[2:]
    small, large = said(engine, handle, speech(1.0, 1)), said(engine, other, speech(1.0, 2))
    outs = [bytearray(h.rect(f).i420_size) for h, f in ((handle, 5), (other, 7))]
    rows = [
        Row(small, 5, 5, 1.0, memoryview(outs[0])),
        Row(large, 7, 7, 1.0, memoryview(outs[1])),
    ]
    results = engine.collect(engine.submit(rows), 1.0)
    assert results is not None
    assert [r.rect for r in results] == [handle.rect(5), other.rect(7)]
    assert levels(bytes(outs[0]), draw(engine, handle, small, [5])[1][0]).max() <= 1
    assert levels(bytes(outs[1]), draw(engine, other, large, [7])[1][0]).max() <= 1
    engine.detach(other)


def test_the_edge_of_the_rectangle_is_the_body(
    engine: MuseTalkEngine, made: Prepared, handle: Handle
) -> None:
    loop = body()
    _, (pixels,) = draw(engine, handle, said(engine, handle, speech()), [5], [1])
    rect, mask = handle.rect(1), made.arrays["masks"][1]
    under = crop_i420(loop.frame(1), loop.width, loop.height, rect)
    luma = levels(pixels, under)[: rect.width * rect.height].reshape(mask.shape)
    assert luma[mask == 0].max() == 0
    assert luma[mask > 200].mean() > 3
    assert (mask == 0).any()


def test_what_it_says_moves_the_mouth(engine: MuseTalkEngine, handle: Handle) -> None:
    _, a = draw(engine, handle, said(engine, handle, speech(1.0, 1)), [10])
    _, b = draw(engine, handle, said(engine, handle, speech(1.0, 2)), [10])
    assert levels(a[0], b[0]).mean() > 0.2


def test_silence_is_body_and_costs_nothing(
    engine: MuseTalkEngine, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr(LipNetwork, "forward", never)
    track = said(engine, handle, np.zeros(16_000, np.int16))
    results, _ = draw(engine, handle, track, [0, 5, 24])
    assert results == [Result("body")] * 3
    loud = said(engine, handle, speech())
    assert draw(engine, handle, loud, [4], alpha=0.0)[0] == [Result("body")]


def test_closing_frames_go_to_the_body(engine: MuseTalkEngine, handle: Handle) -> None:
    loop = body()
    track = said(engine, handle, speech())
    under = crop_i420(loop.frame(2), loop.width, loop.height, handle.rect(2))
    apart = []
    for frame, alpha in ((24, 1.0), (25, 2 / 3), (26, 1 / 3), (27, 0.02)):
        (result,), (pixels,) = draw(engine, handle, track, [frame], [2], alpha)
        assert result.kind == "mouth"
        apart.append(levels(pixels, under).mean())
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 0.1 * apart[0]


def test_a_frame_that_cannot_be_drawn_fails_alone(engine: MuseTalkEngine, handle: Handle) -> None:
    track = said(engine, handle, speech(), end=False)
    results, _ = draw(engine, handle, track, [3, 24])
    assert [r.kind for r in results] == ["mouth", "failed"]
    assert results[1].error is not None
    assert "not there yet" in results[1].error
    track.close()
    assert draw(engine, handle, track, [3])[0][0].kind == "failed"
    open_track = said(engine, handle, speech())
    row = Row(open_track, 3, 0, 1.0, memoryview(bytearray(8)))
    results = engine.collect(engine.submit([row]), 1.0) or []
    assert results[0].kind == "failed"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), BatchFailed),
        (lambda: RuntimeError("shape mismatch"), BatchFailed),
        (lambda: RuntimeError("CUDA error: an illegal memory access was encountered"), EngineDead),
        (lambda: torch.AcceleratorError("CUDA error: device-side assert triggered"), EngineDead),
    ],
)
def test_device_errors(
    raised: Callable[[], Exception],
    expected: type[Exception],
    engine: MuseTalkEngine,
    handle: Handle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    track = said(engine, handle, speech())

    def fail(*_: object) -> None:
        raise raised()

    for _ in range(5):  # more often than there are lanes
        with monkeypatch.context() as patch:
            patch.setattr(LipNetwork, "forward", fail)
            with pytest.raises(expected):
                draw(engine, handle, track, [3])
    assert draw(engine, handle, track, [3])[0][0].kind == "mouth"


def test_more_rows_than_the_largest_bucket_are_refused(engine: MuseTalkEngine, handle: Handle) -> None:
    with pytest.raises(BatchFailed, match="largest bucket"):
        draw(engine, handle, said(engine, handle, speech()), range(5))


def test_memory_is_bounded_and_given_back() -> None:
    engine = loaded(avatar_mb="1")
    loop = body()
    ready = prepared(engine, loop)
    held = []
    with pytest.raises(NoMemory, match="avatar_mb"):
        for _ in range(100):
            held.append(engine.attach(ready, loop))
    assert len(held) >= 2
    full = engine.memory().used
    assert 0.5 * engine.memory().total < full <= engine.memory().total
    engine.detach(held.pop(0))
    assert engine.memory().used < full
    again = engine.attach(ready, loop)
    first, second = (draw(engine, h, said(engine, h, speech()), [5])[1] for h in (again, held[-1]))
    assert first == second
    for one in (again, *held):
        engine.detach(one)
    assert engine.memory().used == 0


def test_what_another_engine_prepared_is_refused(engine: MuseTalkEngine, made: Prepared) -> None:
    loop = body()
    with pytest.raises(EngineError, match="prepare it again"):
        engine.attach(Prepared(made.arrays, {**made.meta, "build": "other"}), loop)
    for broken in (
        {"index": made.arrays["index"] + 99},
        {"latents": made.arrays["latents"][:, :4]},
        {"masks": made.arrays["masks"][:, 1:]},
        {"rects": made.arrays["rects"] + 1},
        {"boxes": made.arrays["boxes"][:, ::-1]},
    ):
        with pytest.raises(EngineError, match="damaged"):
            engine.attach(Prepared({**made.arrays, **broken}, made.meta), loop)
    with pytest.raises(EngineError, match="damaged"):
        engine.attach(made, dataclasses.replace(loop, frames=loop.frames[:2]))


def test_prepared_frames_are_stored_once(engine: MuseTalkEngine) -> None:
    loop = body(5, there_and_back=True)
    ready = prepared(engine, loop)
    assert len(loop) == 8
    assert len(ready.arrays["latents"]) == 5
    assert list(ready.arrays["index"]) == [0, 1, 2, 3, 4, 3, 2, 1]
    handle = engine.attach(ready, loop)
    assert handle.rect(7) == handle.rect(1)
    track = said(engine, handle, speech())
    _, (there, back) = draw(engine, handle, track, [6, 6], [3, 5])
    assert there == back
    engine.detach(handle)


def test_preparation_goes_in_steps(engine: MuseTalkEngine) -> None:
    steps = list(engine.prepare(body(), {}))
    shares = [s for s in steps if isinstance(s, float)]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] < 1
    assert len(shares) >= 3 * 4


def test_taesd_and_v1_draw_otherwise(engine: MuseTalkEngine, handle: Handle) -> None:
    _, usual = draw(engine, handle, said(engine, handle, speech()), [5])
    builds = {engine.info.build}
    for changes in (
        {"decoder": "taesd"},
        {"version": "v1", "bbox_shift": "3"},
        {"most_look_ahead_ms": "200"},
    ):
        other = loaded(**changes)
        loop = body()
        its = other.attach(prepared(other, loop), loop)
        (result,), drawn = draw(other, its, said(other, its, speech()), [5])
        assert result.kind == "mouth"
        assert drawn != usual
        builds.add(other.info.build)
    assert len(builds) == 3  # what is prepared does not depend on the look-ahead


def test_half_precision_runs_where_the_machine_can(engine: MuseTalkEngine, handle: Handle) -> None:
    half = loaded(dtype="bfloat16")
    loop = body()
    its = half.attach(prepared(half, loop), loop)
    _, (a,) = draw(half, its, said(half, its, speech()), [5])
    _, (b,) = draw(engine, handle, said(engine, handle, speech()), [5])
    assert levels(a, b).mean() < 8


def test_another_frame_rate(engine: MuseTalkEngine, handle: Handle) -> None:
    track = engine.track(handle, Fraction(30), 0)
    track.append(speech())
    track.end()
    assert track.ready() == 30
    assert draw(engine, handle, track, [29])[0][0].kind == "mouth"


def test_slab_joins_what_is_given_back() -> None:
    slab = Slab(10)
    a, b, c = slab.take(4), slab.take(3), slab.take(3)
    with pytest.raises(NoMemory):
        slab.take(1)
    slab.give(a, 4)
    slab.give(c, 3)
    with pytest.raises(NoMemory):
        slab.take(5)
    slab.give(b, 3)
    assert slab.take(10) == 0
    assert slab.used == 10


def test_the_reference_half_has_the_persons_own_mouth(engine: MuseTalkEngine) -> None:
    """Lips that were closed for the loop are open there, moved as the frame is; nothing else is another."""
    closed = body(2)
    shift = np.array([[[1, 0, 0], [0, 1, 0]], [[1, 0, 2], [0, 1, 0]]], np.float32)  # the frames move by two
    open_mouth = closed.reference.copy()
    open_mouth[120:140, 100:140] = 200
    loop = dataclasses.replace(closed, original=open_mouth, motion=shift)
    usual, own = (
        prepared(engine, each).arrays["latents"] for each in (dataclasses.replace(loop, original=None), loop)
    )
    assert np.array_equal(own[:, :4], usual[:, :4]) and not np.array_equal(own[:, 4:], usual[:, 4:])
    box = face.face_boxes(loop.landmarks, loop.width, loop.height, engine.settings)[1]
    crop = prepare.face_crop(loop, 1, box, 64)
    seen = prepare.own_mouth(loop, 1, box, crop, prepare.opened(loop)).astype(int) - crop
    rows, columns = np.nonzero(seen.any(axis=2))
    scale = np.array([64 / box.width, 64 / box.height])
    corners = (np.array([[102, 120], [142, 140]]) - (box.x1, box.y1)) * scale
    assert np.abs([columns.min(), rows.min()] - corners[0]).max() <= 1.5
    assert np.abs([columns.max() + 1, rows.max() + 1] - corners[1]).max() <= 1.5
