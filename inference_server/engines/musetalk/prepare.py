"""From a body loop to what the engine keeps of it: boxes, masks and latents, once per different frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference_server.engines.base import BatchFailed, BodyLoop, ImageRejected, NoMemory, Prepared
from inference_server.engines.musetalk import face
from inference_server.engines.musetalk.composite import Places, resample, to_ycbcr
from inference_server.engines.musetalk.network import LipNetwork, device_errors
from inference_server.engines.musetalk.parser import FaceParser
from inference_server.engines.musetalk.settings import Settings
from inference_server.engines.musetalk.sharpness import matching_gain
from visavis.frames import Rect, SharedFrames, crop_i420
from visavis.rgb import to_rgb

FORMAT = 2
_MEASURED = 3  # body frames by which the decoder's sharpness is judged


class DistinctFrames:
    """``kept``: indices of the frames that are not a repetition of an earlier one; ``index``: for every loop
    index which of them it is. A loop that runs there and back has half of its frames stored, found by index on
    the way back. :meth:`look` takes them one by one."""

    def __init__(self, body: BodyLoop) -> None:
        self.kept: list[int] = []
        self.index = np.zeros(len(body), np.int32)
        self._body = body
        self._seen: dict[bytes | int, int] = {}

    def look(self, i: int) -> None:
        """At the next frame."""
        key = self._picture(i)
        if key not in self._seen:
            self._seen[key] = len(self.kept)
            self.kept.append(i)
        self.index[i] = self._seen[key]

    def _picture(self, i: int) -> bytes | int:
        """What names its picture."""
        frames = self._body.frames
        if isinstance(frames, SharedFrames):
            return int(frames.order[i])
        return hashlib.blake2b(np.ascontiguousarray(frames[i]).data, digest_size=16).digest()


def face_crop(body: BodyLoop, frame: int, box: face.Box, side: int) -> NDArray[np.uint8]:
    """``(side, side, 3)`` RGB of the face box, as MuseTalk scales it (Lanczos)."""
    even = Rect(box.x1 & ~1, box.y1 & ~1, 0, 0)
    rect = Rect(even.x, even.y, (box.x2 + 1 & ~1) - even.x, (box.y2 + 1 & ~1) - even.y)
    packed = np.frombuffer(crop_i420(body.frame(frame), body.width, body.height, rect), np.uint8)
    rgb = to_rgb(packed, rect.width, rect.height)
    exact = rgb[box.y1 - rect.y : box.y2 - rect.y, box.x1 - rect.x : box.x2 - rect.x]
    return np.asarray(cv2.resize(exact, (side, side), interpolation=cv2.INTER_LANCZOS4), np.uint8)


def opened(body: BodyLoop) -> Rect:
    """Where lips were closed in the picture; empty where they were not."""
    if body.original is None:
        return Rect(0, 0, 0, 0)
    apart = np.any(body.original != body.reference, axis=2)
    return Rect(*cv2.boundingRect(apart.astype(np.uint8)))


def own_mouth(
    body: BodyLoop, frame: int, box: face.Box, crop: NDArray[np.uint8], changed: Rect
) -> NDArray[np.uint8]:
    """``crop`` with the person's own mouth as it was before its lips were closed, moved as the frame is.

    The reference half of the network's input is where it sees teeth and the inside of lips. ``changed``: as of
    :func:`opened`.
    """
    if body.original is None or not changed.width:
        return crop
    to_crop = body.motion[frame].astype(np.float64)
    to_crop[:, 2] -= (box.x1, box.y1)
    to_crop *= np.array([[len(crop) / box.width], [len(crop) / box.height]])
    x, y, w, h = changed
    apart = body.original[y : y + h, x : x + w].astype(np.float32) - body.reference[y : y + h, x : x + w]
    to_crop[:, 2] += to_crop[:, :2] @ (x, y)
    moved = cv2.warpAffine(apart, to_crop, (len(crop), len(crop)), flags=cv2.INTER_LINEAR)
    return np.asarray(np.clip(np.rint(crop + moved), 0, 255), np.uint8)


def face_pictures(crop: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """``(1, 3, s, s)`` float32 in -1..1: the face with its lower half blacked out, and whole."""
    whole = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))).float() / 255
    masked = whole.clone()
    masked[:, whole.shape[1] // 2 :] = 0
    return (masked * 2 - 1)[None], (whole * 2 - 1)[None]


def prepare(
    body: BodyLoop, network: LipNetwork, settings: Settings, side: int, build: str, parser: FaceParser | None
) -> Iterator[float | Prepared]:
    """Short steps; yields progress, at last the result. Raises :class:`ImageRejected`."""
    if body.landmarks.shape != (len(body), 468, 2) or not np.isfinite(body.landmarks).all():
        raise ImageRejected(
            "no face was followed through the picture: use one that shows a face from the front"
        )
    distinct = DistinctFrames(body)
    for i in range(len(body)):
        distinct.look(i)
        yield 0.05 * i / len(body)
    kept = distinct.kept
    boxes = face.face_boxes(body.landmarks[kept], body.width, body.height, settings)
    weights = next(network.vae.parameters())
    changed = opened(body)
    masks: list[NDArray[np.uint8]] = []
    latents: list[NDArray[np.float32]] = []
    yield 0.05
    for n, (i, box) in enumerate(zip(kept, boxes, strict=True)):
        region = _region(body, i, box, settings, parser)
        yield 0.05 + 0.94 * n / len(kept)
        masks.append(_mask(region, box))
        yield 0.05 + 0.94 * (n + 0.25) / len(kept)
        pair = []
        crop = face_crop(body, i, box, side)
        for picture in (face_pictures(crop)[0], face_pictures(own_mouth(body, i, box, crop, changed))[1]):
            with _on_device():
                pair.append(network.encode_face(_moved(picture, weights)).float().cpu().numpy()[0])
            yield 0.05 + 0.94 * (n + 0.25 + 0.375 * len(pair)) / len(kept)
        latents.append(np.concatenate(pair))
    rects = same_size(masks, boxes, body.width, body.height)
    cut = np.zeros((len(kept), rects[0].height, rects[0].width), np.uint8)
    for n, (mask, box, rect) in enumerate(zip(masks, boxes, rects, strict=True)):
        lay(mask, box, rect, cut[n])
        if n % 16 == 15:
            yield 0.99
    gain = 0.0
    if settings.match_sharpness:
        seen = []
        for n in np.linspace(0, len(kept) - 1, min(_MEASURED, len(kept))).astype(int):
            whole = face_pictures(face_crop(body, kept[n], boxes[n], side))[1]
            with _on_device():
                latents_of_it = network.encode_face(_moved(whole, weights))
            yield 0.99
            with _on_device():
                faces = network.decode(latents_of_it).cpu()
            seen.append(_drawn_and_body(body, kept[n], faces, boxes[n], rects[n], cut[n]))
            yield 0.99
        gain = matching_gain(seen)
    kind = np.float16 if weights.dtype == torch.float16 else np.float32
    yield Prepared(
        {
            "index": distinct.index,
            "kept": np.asarray(kept, np.int32),
            "boxes": np.asarray(boxes, np.int32),
            "rects": np.asarray(rects, np.int32),
            "masks": cut,
            "latents": np.stack(latents).astype(kind),
        },
        {"format": FORMAT, "engine": "musetalk", "build": build, "side": side, "gain": gain},
    )


@contextmanager
def _on_device() -> Iterator[None]:
    """The networks run for an avatar that is prepared; what they cannot do now is asked for again."""
    try:
        with torch.inference_mode(), device_errors():
            yield
    except BatchFailed as error:
        raise NoMemory(f"the avatar could not be prepared now ({error}): try again later") from error


def _moved(picture: Tensor, weights: Tensor) -> Tensor:
    return picture.to(weights.device, weights.dtype).contiguous(memory_format=torch.channels_last)


def _drawn_and_body(
    body: BodyLoop, frame: int, faces: Tensor, box: face.Box, rect: Rect, mask: NDArray[np.uint8]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one frame, as :func:`matching_gain` takes it: luma as it would be drawn, the body's, the mask's weight."""
    whole = (0, rect.width, rect.height, rect.x - box.x1, rect.y - box.y1, box.width, box.height, 1, 0)
    at = Places(*(torch.tensor([float(v)]) for v in whole))
    drawn, _ = to_ycbcr(resample(faces, at, rect.height, rect.width))
    pixels = np.frombuffer(crop_i420(body.frame(frame), body.width, body.height, rect), np.uint8)
    own = torch.from_numpy(pixels[: mask.size].astype(np.float32))
    weight = torch.from_numpy(mask.astype(np.float32) / 255)
    return drawn, own.view(1, 1, *mask.shape), weight[None, None]


def _region(
    body: BodyLoop, i: int, box: face.Box, settings: Settings, parser: FaceParser | None
) -> NDArray[np.uint8]:
    square = face.crop_square(box)
    mode = settings.parsing_mode if settings.version == "v15" else "raw"
    if parser is not None:
        return parser.region(to_rgb(body.frame(i), body.width, body.height), square, mode)
    return face.polygon_region(body.landmarks[i], square, mode)


def _mask(region: NDArray[np.uint8], box: face.Box) -> NDArray[np.uint8]:
    square = face.crop_square(box)
    mask = face.mask_in_box(face.soft_mask(region, box, square), box, square)
    if not mask.any():
        raise ImageRejected("no mouth region was found in the face: use a picture taken from the front")
    return mask


def same_size(masks: list[NDArray[np.uint8]], boxes: list[face.Box], width: int, height: int) -> list[Rect]:
    """Even rectangles of one size around the masks, each inside the picture."""
    tight = face.tightest(masks)
    corners = [(b.x1 + x1, b.y1 + y1) for b, (x1, y1, _, _) in zip(boxes, tight, strict=True)]
    w = max(b.x1 + x2 - (x & ~1) for b, (_, _, x2, _), (x, _) in zip(boxes, tight, corners, strict=True))
    h = max(b.y1 + y2 - (y & ~1) for b, (_, _, _, y2), (_, y) in zip(boxes, tight, corners, strict=True))
    w, h = min(w + 1 & ~1, width & ~1), min(h + 1 & ~1, height & ~1)
    return [Rect(min(x & ~1, (width & ~1) - w), min(y & ~1, (height & ~1) - h), w, h) for x, y in corners]


def lay(mask: NDArray[np.uint8], box: face.Box, rect: Rect, out: NDArray[np.uint8]) -> None:
    """The part of a face box's mask that lies in the rectangle, into ``out``, which has the rectangle's size."""
    x1, y1 = max(box.x1, rect.x), max(box.y1, rect.y)
    x2, y2 = min(box.x2, rect.x + rect.width), min(box.y2, rect.y + rect.height)
    part = mask[y1 - box.y1 : y2 - box.y1, x1 - box.x1 : x2 - box.x1]
    out[y1 - rect.y : y2 - rect.y, x1 - rect.x : x2 - rect.x] = part
