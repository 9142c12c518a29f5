"""Face box, mask and parser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from inference_server.engines.base import ImageRejected, ModelMissing, Prepared
from inference_server.engines.musetalk import face
from inference_server.engines.musetalk.parser import FaceParser
from inference_server.engines.musetalk.settings import Settings
from tests.musetalk.support import body, loaded, mesh, settings

pytestmark = pytest.mark.torch

PLAIN = Settings.of(settings())


def boxes(**changes: str) -> list[face.Box]:
    return face.face_boxes(mesh(120, 100, 90, 116)[None], 240, 200, Settings.of(settings(**changes)))


def test_box_reaches_as_far_above_the_half_face_line_as_below() -> None:
    (box,) = boxes(extra_margin="0")
    half = 100  # the tip of the nose's bridge in this mesh
    assert box.y2 - half == pytest.approx(half - box.y1, abs=2)
    assert (box.x1, box.x2, box.y2) == (75, 165, 162)  # the chin 7 % lower than the mesh has it


def test_margin_is_v15s_and_shift_is_v1s() -> None:
    (plain,), (wider,) = boxes(extra_margin="0"), boxes(extra_margin="10")
    assert wider == plain._replace(y2=plain.y2 + round(10 * (plain.y2 - plain.y1) / 256))
    assert boxes(extra_margin="10", version="v1") == [plain]
    (shifted,) = boxes(version="v1", bbox_shift="7")
    assert shifted == plain._replace(y1=plain.y1 + 14)
    assert boxes(bbox_shift="7", extra_margin="0") == [plain]


def test_box_stays_in_the_picture() -> None:
    high = face.face_boxes(mesh(60, 90, 150, 190)[None], 240, 200, PLAIN)[0]
    assert high == face.Box(0, 15 - (high.y1 < 0), 135, 195) or (
        high.x1 == 0 and high.y1 >= 0 and high.x2 <= 240 and high.y2 <= 200
    )


def test_68_points_are_where_ibug_has_them() -> None:
    assert len(face.IBUG) == 68
    assert face.IBUG[8] == 152  # the chin
    points = face.ibug_points(np.stack([np.arange(468), np.arange(468)], 1).astype(np.float32))
    assert points[8, 0] == pytest.approx(152 + 0.07 * (152 - 100))  # lower than the mesh's, from point 29 on
    assert points[27, 0] == 168  # between the eyes
    assert (points[48, 0], points[54, 0]) == (61, 291)  # corners of the mouth


def test_too_small_a_face_is_refused() -> None:
    with pytest.raises(ImageRejected, match="32x32"):
        face.face_boxes(mesh(120, 100, 20, 26)[None], 240, 200, PLAIN)


def test_no_points_are_refused() -> None:
    engine = loaded()
    loop = body()
    lost = replace(loop, landmarks=np.full_like(loop.landmarks, np.nan))
    with pytest.raises(ImageRejected, match="no face"):
        list(engine.prepare(lost, {}))


def test_shaking_boxes_are_steadied_and_steady_ones_left_alone() -> None:
    path = np.stack([np.array([70, 40, 160, 160]) + 1.5 * np.sin(i / 9) for i in range(40)])
    assert np.array_equal(face.steady(path), path)
    shaking = path + np.random.default_rng(0).normal(0, 1.0, path.shape)
    calmer = face.steady(shaking)
    assert np.abs(np.diff(calmer, n=2, axis=0)).mean() < 0.35 * np.abs(np.diff(shaking, n=2, axis=0)).mean()
    assert np.abs(calmer - path).mean() < np.abs(shaking - path).mean()


@pytest.mark.parametrize("mode", ["jaw", "raw"])
def test_mask_covers_mouth_and_chin_and_nothing_above_the_middle(mode: str) -> None:
    points = mesh(120, 100, 90, 116)
    (box,) = boxes()
    square = face.crop_square(box)
    assert square.width == square.height
    region = face.polygon_region(points, square, mode)  # type: ignore[arg-type]
    soft = face.mask_in_box(face.soft_mask(region, box, square), box, square)
    assert soft.shape == (box.height, box.width)
    mouth = soft[129 - box.y1, 120 - box.x1]
    assert mouth > 250
    middle = (square.y1 + square.y2) // 2
    blur = int(0.1 * square.width // 2 * 2) + 1
    assert soft[: middle - box.y1 - blur // 2].max() == 0
    assert max(soft[:, 0].max(), soft[:, -1].max(), soft[-1].max()) == 0
    steps = np.abs(np.diff(soft.astype(int), axis=0)).max()
    assert steps < 60  # soft edges


def test_jaw_reaches_below_the_chin_and_in_at_the_cheeks() -> None:
    points = mesh(256, 256, 300, 380)
    square = face.Box(0, 0, 512, 512)
    jaw, raw = (face.polygon_region(points, square, m) for m in ("jaw", "raw"))  # type: ignore[arg-type]
    chin = [int(np.flatnonzero(m[:, 256]).max()) for m in (jaw, raw)]
    assert 3 <= chin[0] - chin[1] <= 10
    cheeks = [int(np.count_nonzero(m[300])) for m in (jaw, raw)]
    assert cheeks[0] < cheeks[1] - 30


def random_parser_weights() -> dict[str, torch.Tensor]:
    """A table with the parser's names and shapes, made by hand from the architecture."""
    generator = torch.Generator().manual_seed(0)
    w: dict[str, torch.Tensor] = {}

    def conv(name: str, cin: int, cout: int, size: int) -> None:
        w[f"{name}.weight"] = (
            torch.randn(cout, cin, size, size, generator=generator) / (cin * size * size) ** 0.5
        )

    def norm(name: str, n: int) -> None:
        w[f"{name}.weight"], w[f"{name}.bias"] = torch.ones(n), torch.zeros(n)
        w[f"{name}.running_mean"], w[f"{name}.running_var"] = torch.zeros(n), torch.ones(n)

    def unit(name: str, cin: int, cout: int, size: int = 3) -> None:
        conv(f"{name}.conv", cin, cout, size)
        norm(f"{name}.bn", cout)

    conv("cp.resnet.conv1", 3, 64, 7)
    norm("cp.resnet.bn1", 64)
    cin = 64
    for layer, cout in ((1, 64), (2, 128), (3, 256), (4, 512)):
        for block in (0, 1):
            name = f"cp.resnet.layer{layer}.{block}"
            for n, inner in ((1, cin), (2, cout)):
                conv(f"{name}.conv{n}", inner, cout, 3)
                norm(f"{name}.bn{n}", cout)
            if cin != cout:
                conv(f"{name}.downsample.0", cin, cout, 1)
                norm(f"{name}.downsample.1", cout)
            cin = cout
    for name, inner in (("cp.arm16", 256), ("cp.arm32", 512)):
        unit(f"{name}.conv", inner, 128)
        conv(f"{name}.conv_atten", 128, 128, 1)
        norm(f"{name}.bn_atten", 128)
    unit("cp.conv_head16", 128, 128)
    unit("cp.conv_head32", 128, 128)
    unit("cp.conv_avg", 512, 128, 1)
    unit("ffm.convblk", 256, 256, 1)
    conv("ffm.conv1", 256, 64, 1)
    conv("ffm.conv2", 64, 256, 1)
    unit("conv_out.conv", 256, 256)
    conv("conv_out.conv_out", 256, 19, 1)
    return w


def test_parser_classes_decide_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = FaceParser(random_parser_weights(), torch.device("cpu"))
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    found = parser.classes(rgb)
    assert found.shape == (64, 96)
    assert set(np.unique(found)) <= set(range(19))
    classes = np.zeros((512, 512), np.int64)
    classes[100:400, 100:400], classes[200:250, 240:270], classes[300:340, 200:300] = 1, 10, 12
    monkeypatch.setattr(parser, "classes", lambda picture: classes)
    region = parser.region(np.zeros((200, 240, 3), np.uint8), face.Box(-10, -10, 100, 100), "raw")
    assert region[320, 250] == region[150, 150] == 255
    assert region[220, 250] == region[50, 50] == 0


def test_what_is_not_a_parser_is_refused() -> None:
    with pytest.raises(ModelMissing, match="79999_iter"):
        FaceParser({"conv.weight": torch.zeros(1)}, torch.device("cpu"))


def test_rectangles_are_even_and_of_one_size() -> None:
    engine = loaded()
    loop = body(6)
    made = list(engine.prepare(loop, {"parsing_mode": "raw"}))[-1]
    assert isinstance(made, Prepared)
    rects, masks = made.arrays["rects"], made.arrays["masks"]
    assert (rects % 2 == 0).all()
    assert len({tuple(r[2:]) for r in rects}) == 1
    assert masks.shape[1:] == (rects[0][3], rects[0][2])
    assert (rects[:, 0] + rects[:, 2] <= loop.width).all()
    assert (rects[:, 1] + rects[:, 3] <= loop.height).all()
