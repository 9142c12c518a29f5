"""A face parser for the mask, for those who may use its weights: BiSeNet (Yu et al. 2018) on ResNet-18, with
the 19 classes of CelebAMask-HQ. Its public weights come from data for non-commercial research, so nothing
needs it: without it masks are drawn from landmarks."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from inference_server.engines.base import ModelMissing
from inference_server.engines.musetalk.checkpoint import Weights
from inference_server.engines.musetalk.face import Box, talking_region
from inference_server.engines.musetalk.settings import Parsing

SKIN, NOSE, LIPS = (1,), (10,), (11, 12, 13)
_SIDE = 512
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FaceParser:
    """Classes of a face picture, from a table of weights named as in ``79999_iter.pth``."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self._w = {name: w.to(device) for name, w in weights.items()}
        self._device = device
        try:
            with torch.inference_mode():
                self.classes(np.zeros((64, 64, 3), np.uint8))
        except (KeyError, RuntimeError) as error:
            raise ModelMissing(
                f"face-parse-bisent/79999_iter.pth is not the face parser's: {error}"
            ) from None

    def region(self, rgb: NDArray[np.uint8], square: Box, mode: Parsing) -> NDArray[np.uint8]:
        """``(512, 512)`` of 0 and 255, as :func:`face.polygon_region`. ``square`` may reach outside."""
        height, width = rgb.shape[:2]
        beyond = max(-square.x1, -square.y1, square.x2 - width, square.y2 - height, 0)
        padded = np.pad(rgb, ((beyond, beyond), (beyond, beyond), (0, 0)))
        cut = padded[square.y1 + beyond : square.y2 + beyond, square.x1 + beyond : square.x2 + beyond]
        found = self.classes(
            np.asarray(cv2.resize(cut, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        )
        skin, nose, lips = (np.isin(found, c).astype(np.uint8) * 255 for c in (SKIN, NOSE, LIPS))
        return talking_region(skin, nose, lips, mode)

    @torch.inference_mode()
    def classes(self, rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
        """``(h, w)`` class of every pixel of ``(h, w, 3)``; sides are multiples of 32."""
        x = (
            torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).to(self._device).float()[None]
            / 255
        )
        mean, spread = (torch.tensor(v, device=self._device)[:, None, None] for v in (_MEAN, _SPREAD))
        eighth, context = self._context((x - mean) / spread)
        fused = self._unit("ffm.convblk", torch.cat((eighth, context), 1), padding=0)
        weight = torch.relu(self._conv("ffm.conv1", fused.mean((2, 3), keepdim=True), padding=0))
        fused = fused * torch.sigmoid(self._conv("ffm.conv2", weight, padding=0)) + fused
        scores = self._conv("conv_out.conv_out", self._unit("conv_out.conv", fused), padding=0)
        full = F.interpolate(scores, rgb.shape[:2], mode="bilinear", align_corners=True)
        return full[0].argmax(0).cpu().numpy()

    def _context(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features at an eighth of the size: ResNet's own, and those refined with wider context."""
        x = torch.relu(self._norm("cp.resnet.bn1", self._conv("cp.resnet.conv1", x, stride=2, padding=3)))
        x = F.max_pool2d(x, 3, 2, 1)
        levels = []
        for layer in (1, 2, 3, 4):
            for block in (0, 1):
                x = self._residual(f"cp.resnet.layer{layer}.{block}", x, 2 if layer > 1 and block == 0 else 1)
            levels.append(x)
        eighth, sixteenth, last = levels[1:]
        overall = self._unit("cp.conv_avg", last.mean((2, 3), keepdim=True), padding=0)
        deep = F.interpolate(self._attend("cp.arm32", last) + overall, sixteenth.shape[2:], mode="nearest")
        deep = self._unit("cp.conv_head32", deep)
        middle = F.interpolate(self._attend("cp.arm16", sixteenth) + deep, eighth.shape[2:], mode="nearest")
        return eighth, self._unit("cp.conv_head16", middle)

    def _residual(self, name: str, x: Tensor, stride: int) -> Tensor:
        y = torch.relu(self._norm(f"{name}.bn1", self._conv(f"{name}.conv1", x, stride)))
        y = self._norm(f"{name}.bn2", self._conv(f"{name}.conv2", y))
        if f"{name}.downsample.0.weight" in self._w:
            x = self._norm(f"{name}.downsample.1", self._conv(f"{name}.downsample.0", x, stride, 0))
        return torch.relu(x + y)

    def _attend(self, name: str, x: Tensor) -> Tensor:
        x = self._unit(f"{name}.conv", x)
        weight = self._conv(f"{name}.conv_atten", x.mean((2, 3), keepdim=True), padding=0)
        return x * torch.sigmoid(self._norm(f"{name}.bn_atten", weight))

    def _unit(self, name: str, x: Tensor, padding: int = 1) -> Tensor:
        return torch.relu(self._norm(f"{name}.bn", self._conv(f"{name}.conv", x, padding=padding)))

    def _conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, self._w[f"{name}.weight"], None, stride, padding)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        w = self._w
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"])
