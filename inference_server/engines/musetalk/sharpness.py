"""How much softer the decoder's faces are than the body around them, and the unsharp gain that makes up for it.

The picture changes from the body to a drawn mouth and back at every rest. What the autoencoder and the resampling
lose in fine detail shows there as a pulse of sharpness. It is the same for every frame of an avatar, so it is
measured once: the face of a body frame, encoded and decoded, against the frame itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor
from torch.nn import functional as F

MOST = 1.5
"""The largest gain: the finest detail, and the rounding of the decoder's 8 bits, grow 2.5 times at most."""
LIMIT = 16.0
"""The most that a pixel's luma is moved: at the edge of dark and teeth more would be a halo."""
_SIDE = 5


def detail(luma: Tensor) -> Tensor:
    """``(b, 1, h, w)``: what is finer than some five pixels: luma less its mean, taken twice over 5x5.

    Pooling, not a convolution: cuDNN would try out kernels anew for every size of a batch's rectangle.
    """
    padded = F.pad(luma, (_SIDE - 1,) * 4, mode="replicate")
    return luma - F.avg_pool2d(F.avg_pool2d(padded, _SIDE, 1), _SIDE, 1)


def sharpen(luma: Tensor, gain: Tensor) -> Tensor:
    """``luma`` and ``gain`` times its detail, no pixel moved by more than ``LIMIT``."""
    return luma + (gain * detail(luma)).clamp(-LIMIT, LIMIT)


def matching_gain(pictures: Iterable[tuple[Tensor, Tensor, Tensor]]) -> float:
    """The gain, 0 to ``MOST``, by which drawn pictures come nearest to the body's detail.

    ``pictures``: of each frame the drawn luma, the body's, and the mask's weight 0..1, all ``(1, 1, h, w)``. Least
    squares: grain of the body that the decoder has dropped has nothing to do with what is left, so it asks for no
    gain, and neither does noise that the decoder adds. Nor is there more detail afterwards than the body has.
    """
    missing = own = cross = square = whole = 0.0
    for drawn, plate, weight in pictures:
        has, wanted = detail(drawn), detail(plate)
        more = detail(has)  # what a gain of 1 adds to the detail
        missing += float((weight * (wanted - has) * more).sum())
        square += float((weight * more**2).sum())
        cross += float((weight * has * more).sum())
        own += float((weight * has**2).sum())
        whole += float((weight * wanted**2).sum())
    if square <= 0.0 or whole <= own:
        return 0.0
    nearest = missing / square
    # |has + g more|^2 = |wanted|^2
    equal = (math.sqrt(cross**2 + square * (whole - own)) - cross) / square
    return min(max(nearest, 0.0), equal, MOST)
