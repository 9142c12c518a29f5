"""What judges an installation, and what the benches measure."""

from __future__ import annotations

import numpy as np
import pytest

from bench.engine import run as engine_run
from inference_server.models.verify import contact_sheet, judge, render
from tests.musetalk.support import body, loaded, prepared, settings, speech
from visavis.rgb import to_rgb

pytestmark = pytest.mark.torch


def test_a_clip_is_rendered_whole_and_judged() -> None:
    engine = loaded()
    loop = body()
    handle = engine.attach(prepared(engine, loop), loop)
    pcm = np.concatenate([speech(0.6), np.zeros(32_000, np.int16)])
    pictures = list(render(engine, handle, loop, pcm))
    assert len(pictures) == 65
    assert [mouth for _, mouth in pictures[:15]] == [True] * 15
    assert [mouth for _, mouth in pictures[-10:]] == [False] * 10
    plain = [to_rgb(loop.frame(n), loop.width, loop.height) for n in range(65)]
    assert np.array_equal(pictures[-1][0], plain[64])
    assert contact_sheet(pictures, handle).shape == (3 * 240, 8 * 192, 3)

    drawn = judge(pictures, loop, handle)
    same = judge([(p, True) for p in plain], loop, handle)
    assert (same.seam, same.sharpness) == (1.0, 1.0)
    assert 0.9 < drawn.seam < 1.2  # the mask fades out inside the rectangle
    pasted = []
    for n, picture in enumerate(plain):
        x, y, w, h = handle.rect(n)
        picture = picture.copy()
        picture[y : y + h, x : x + w] = 255 - picture[y : y + h, x : x + w] // 8
        pasted.append((picture, True))
    hard = judge(pasted, loop, handle)
    assert hard.seam > 3
    assert hard.sharpness < 0.5


def test_the_bench_measures_every_bucket_and_meets_deadlines_it_can() -> None:
    at = engine_run.load(settings(batch_size="2"))
    costs = engine_run.bucket_costs(at, repeats=2)
    assert [c.rows for c in costs] == [1, 2]
    assert all(c.batch_ms >= c.host_ms > 0 for c in costs)
    assert costs[1].d2h_bytes == 2 * costs[0].d2h_bytes == 2 * at.handle.rect(0).i420_size
    assert all(ms > 0 for ms in engine_run.first_frame_ms(at, 2))
    seen = engine_run.live(at, streams=2, seconds=0.4, longest_ms=40.0)
    assert len(seen.late) == 2 * 10
