"""Avatars resident on the device: their latents, plates and masks in two slabs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference_server.engines.base import BodyLoop, EngineError, NoMemory, Prepared
from inference_server.engines.musetalk.prepare import FORMAT
from inference_server.engines.musetalk.sharpness import MOST
from inference_server.engines.musetalk.slab import Slab
from visavis.frames import Rect, crop_i420


@dataclass(frozen=True)
class ResidentAvatar:
    """``index``: stored frame of every loop index. ``rects``, ``boxes``: of the stored frames. ``latent``,
    ``plate``: where its places in the slabs begin. ``gain``: of the drawn detail, see :mod:`.sharpness`."""

    index: NDArray[np.int32]
    rects: tuple[Rect, ...]
    boxes: NDArray[np.int32]
    latent: int
    plate: int
    gain: float

    @property
    def plate_bytes(self) -> int:
        """Of one stored frame: its rectangle in I420, then its mask."""
        return self.rects[0].i420_size + self.rects[0].width * self.rects[0].height

    @property
    def largest_rect(self) -> Rect:
        """The rectangle around all of them."""
        x, y = min(r.x for r in self.rects), min(r.y for r in self.rects)
        right, low = (max(r.x + r.width for r in self.rects), max(r.y + r.height for r in self.rects))
        return Rect(x, y, right - x, low - y)

    def stored(self, loop_index: int) -> int:
        """The stored frame under a loop index."""
        return int(self.index[loop_index % len(self.index)])

    def rect(self, loop_index: int) -> Rect:
        """The rectangle of a mouth drawn on this body frame."""
        return self.rects[self.stored(loop_index)]


class Residents:
    """``latents``: ``(n, 8, s, s)``, ``plates``: uint8; fixed for the engine's life, read by captured graphs."""

    def __init__(self, nbytes: int, side: int, dtype: torch.dtype, device: torch.device) -> None:
        frame = 8 * side * side * dtype.itemsize
        count = max(nbytes // 8 // frame, 1)
        self.latents = torch.zeros(count, 8, side, side, dtype=dtype, device=device)
        self.plates = torch.empty(max(nbytes - count * frame, 1), dtype=torch.uint8, device=device)
        self._frames = Slab(count)
        self._bytes = Slab(len(self.plates))
        self._frame_bytes = frame

    @property
    def used(self) -> int:
        """Bytes that avatars take."""
        return self._frames.used * self._frame_bytes + self._bytes.used

    @property
    def total(self) -> int:
        """Bytes set aside for them."""
        return self._frames.size * self._frame_bytes + self._bytes.size

    def attach(self, prepared: Prepared, body: BodyLoop, build: str) -> ResidentAvatar:
        """Raises :class:`NoMemory`, and :class:`EngineError` for what this engine did not prepare."""
        meta, arrays = prepared.meta, prepared.arrays
        if meta.get("engine") != "musetalk" or meta.get("format") != FORMAT or meta.get("build") != build:
            raise EngineError("the avatar was prepared by another engine or other weights: prepare it again")
        try:
            avatar, latents = self._read(arrays, body, float(meta["gain"]))
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise EngineError(f"the prepared avatar is damaged ({error}): prepare it again") from None
        count = len(avatar.rects)
        latent = self._frames.take(count)
        try:
            plate = self._bytes.take(count * avatar.plate_bytes)
        except NoMemory:
            self._frames.give(latent, count)
            raise
        self.latents[latent : latent + count].copy_(latents)
        stretch = torch.empty(count, avatar.plate_bytes, dtype=torch.uint8)
        for place, i, rect, mask in zip(
            stretch.numpy(), arrays["kept"], avatar.rects, arrays["masks"], strict=True
        ):
            place[: rect.i420_size] = np.frombuffer(
                crop_i420(body.frame(int(i)), body.width, body.height, rect), np.uint8
            )
            place[rect.i420_size :] = mask.reshape(-1)
        self.plates[plate : plate + stretch.numel()].copy_(stretch.flatten())
        return replace(avatar, latent=latent, plate=plate)

    def _read(self, arrays: object, body: BodyLoop, gain: float) -> tuple[ResidentAvatar, Tensor]:
        table: dict[str, NDArray[np.generic]] = dict(arrays)  # type: ignore[call-overload]
        index, boxes = table["index"].astype(np.int32), table["boxes"].astype(np.int32)
        rects = tuple(Rect(*(int(v) for v in r)) for r in np.asarray(table["rects"], np.int64))
        latents = torch.from_numpy(np.array(table["latents"]))
        count = len(rects)
        if (
            len(index) != len(body)
            or index.min() < 0
            or index.max() >= count
            or len(set(map(tuple, rects))) < 1
        ):
            raise ValueError("it is not of this body")
        for rect, mask in zip(rects, table["masks"], strict=True):
            rect.validate(body.width, body.height)
            if mask.shape != (rect.height, rect.width) or rect[2:] != rects[0][2:]:
                raise ValueError("a mask does not fit its rectangle")
        if latents.shape != (count, *self.latents.shape[1:]) or boxes.shape != (count, 4):
            raise ValueError("latents or boxes have the wrong shape")
        if (np.asarray(boxes)[:, 2:] <= np.asarray(boxes)[:, :2]).any():
            raise ValueError("a face box is empty")
        if not 0 <= gain <= MOST:
            raise ValueError("its gain is out of range")
        return ResidentAvatar(index, rects, boxes, 0, 0, gain), latents

    def detach(self, avatar: ResidentAvatar) -> None:
        """Give its places back. Work in flight reads them first: the device runs everything in order."""
        self._frames.give(avatar.latent, len(avatar.rects))
        self._bytes.give(avatar.plate, len(avatar.rects) * avatar.plate_bytes)
