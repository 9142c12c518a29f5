"""From the drawn 256x256 face to the I420 bytes of the rectangle that changes, for a whole batch at once.

Rows may belong to avatars of different sizes: pictures are computed in the batch's largest rectangle and
packed to each row's own. Works the same on every device.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_server.engines.musetalk.sharpness import sharpen

# ITU-R BT.601-7, limited range: R, G, B in 0..255 to Y, Cb, Cr.
YCBCR = (
    (65.481 / 255, 128.553 / 255, 24.966 / 255),
    (-37.797 / 255, -74.203 / 255, 112.0 / 255),
    (112.0 / 255, -93.786 / 255, -18.214 / 255),
)
OFFSET = (16.0, 128.0, 128.0)


@dataclass(frozen=True)
class Places:
    """Where the rows' faces go; all ``(b,)`` on the device. ``plate``: offset in the slab of the row's
    rectangle in I420, which its mask follows. ``width``, ``height``: of the rectangle. ``left``, ``top``: of the
    rectangle in the face box, ``box_width``, ``box_height``: of that. ``alpha``: 0..1.
    ``gain``: of the detail that is added, see :mod:`.sharpness`."""

    plate: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    top: Tensor
    box_width: Tensor
    box_height: Tensor
    alpha: Tensor
    gain: Tensor


def resample(faces: Tensor, at: Places, height: int, width: int) -> Tensor:
    """``(b, 3, height, width)`` float32 0..255 of ``(b, 3, s, s)`` uint8: the part of the face under the
    rectangle, bilinear with half-pixel centres, edges repeated."""
    zero = torch.zeros_like(at.alpha)
    across = torch.stack((width / at.box_width, zero, (2 * at.left + width) / at.box_width - 1), dim=1)
    down = torch.stack((zero, height / at.box_height, (2 * at.top + height) / at.box_height - 1), dim=1)
    theta = torch.stack((across, down), dim=1)
    grid = F.affine_grid(theta, [len(faces), 3, height, width], align_corners=False)
    return F.grid_sample(faces.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def blend(drawn: Tensor, plate: Tensor, weight: Tensor) -> Tensor:
    """uint8 of ``plate`` moved towards ``drawn`` by ``weight`` 0..1; where that is 0 the plate, bit for bit."""
    return (plate + weight * (drawn - plate)).round().clamp(0, 255).to(torch.uint8)


def to_ycbcr(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Luma ``(b, 1, h, w)`` and left-sited 4:2:0 chroma ``(b, 2, h / 2, w / 2)``, float32."""
    matrix, offset = _constants(rgb.device, YCBCR)
    full = torch.einsum("oc,bchw->bohw", matrix, rgb) + offset
    return full[:, :1], halve(full[:, 1:])


@functools.cache
def _constants(device: torch.device, matrix: tuple[tuple[float, ...], ...]) -> tuple[Tensor, Tensor]:
    """On the device once: a copy to it for every batch would make the engine's thread wait."""
    return torch.tensor(matrix, device=device), torch.tensor(OFFSET, device=device)[:, None, None]


def halve(planes: Tensor) -> Tensor:
    """At the places of left-sited chroma: 1 2 1 across even columns, the mean of two lines down."""
    left = torch.cat((planes[..., :1], planes[..., :-1]), dim=-1)
    right = torch.cat((planes[..., 1:], planes[..., -1:]), dim=-1)
    across = ((left + right) * 0.25 + planes * 0.5)[..., ::2]
    return (across[..., ::2, :] + across[..., 1::2, :]) * 0.5


def composite(faces: Tensor, slab: Tensor, at: Places, height: int, width: int) -> Tensor:
    """``(b, n)`` uint8: each row's rectangle in packed I420, of which the first ``w * h * 3 / 2`` count.

    ``faces``: ``(b, 3, s, s)`` uint8. ``slab``: uint8, holds plates and masks. ``height``, ``width``: of the
    largest rectangle in the batch, even.
    """
    drawn = resample(faces, at, height, width)
    luma, chroma = to_ycbcr(drawn)
    luma = sharpen(luma, at.gain[:, None, None, None])
    y = torch.arange(height, device=slab.device)[:, None]
    x = torch.arange(width, device=slab.device)[None]
    wide, area = at.width[:, None, None], (at.width * at.height)[:, None, None]
    base = at.plate[:, None, None]
    last = len(slab) - 1

    def plane(offset: Tensor, stride: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return slab[(offset + rows * stride + columns).clamp(max=last)].float()

    half_y, half_x = y[: height // 2], x[:, : width // 2]
    plate_y = plane(base, wide, y, x)
    plate_u = plane(base + area, wide // 2, half_y, half_x)
    plate_v = plane(base + area + area // 4, wide // 2, half_y, half_x)
    weight = plane(base + area * 3 // 2, wide, y, x) / 255
    inside = (y < at.height[:, None, None]) & (x < wide)
    weight = (weight * inside * at.alpha[:, None, None])[:, None]
    out_y = blend(luma, plate_y[:, None], weight)
    out_c = blend(chroma, torch.stack((plate_u, plate_v), dim=1), halve(weight))
    return _pack(out_y, out_c, at, height, width)


def _pack(luma: Tensor, chroma: Tensor, at: Places, height: int, width: int) -> Tensor:
    """Drop the padding of rows whose rectangle is smaller than the batch's."""
    whole = torch.cat((luma.flatten(1), chroma.flatten(1)), dim=1)
    p = torch.arange(height * width * 3 // 2, device=luma.device)[None]
    w, area = at.width[:, None], (at.width * at.height)[:, None]
    quarter = area // 4
    in_chroma = (p - area).clamp(min=0)
    second, rest = in_chroma // quarter, in_chroma % quarter
    from_luma = (p // w) * width + p % w
    from_chroma = (
        height * width + second * (height * width // 4) + (rest // (w // 2)) * (width // 2) + rest % (w // 2)
    )
    source = torch.where(p < area, from_luma, from_chroma).clamp(max=whole.shape[1] - 1)
    return whole.gather(1, source)
