"""Sound → mouth: what the lips do in each video frame of a turn, from its audio alone.

A small causal convolutional network runs over the features of :mod:`.features` in blocks of constant shape;
its answer for a hop comes ``delay`` hops later, which is all the future it sees. The weights in
``viseme.npz`` are made by ``make train-visemes``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.base import ModelMissing
from inference_server.engines.portrait.features import (
    AFTER,
    BANDS,
    BLOCK_HOPS,
    HOP,
    PEAK_BLOCKS,
    FeatureStream,
)
from visavis.frames import frame_start

WEIGHTS = "viseme.npz"
OUTPUTS = 5
"""open, width, close, fv, speech."""
CLOSED_AFTER_HOPS = 24
"""Hops without speech after which the mouth is at rest for certain (240 ms): a plosive is no pause."""
FIRM = 1.5
"""The least sum of ``close`` over three hops (30 ms) in which lips meet; /p/ and /m/ last longer."""
UNSURE = 0.2
"""``close`` at most of what is no closure: lips still come nearer to each other by themselves."""
FIRM_FV = 2.0
"""The same of ``fv``: a tongue between the teeth sounds alike."""
OPEN_GAIN = 1.3
"""Unsure of a voice that it never heard, the network opens the mouth too little: least squares keeps near the
mean."""

Array = NDArray[np.float32]


class MouthParams(NamedTuple):
    """A mouth. ``open`` 0..1, ``width`` -1 (rounded, as in "who") .. 1 (spread, as in "see"), ``close`` 0..1
    (lips pressed: p, b, m), ``fv`` 0..1 (lower lip under the teeth), ``silent``: at rest in a pause."""

    open: float
    width: float
    close: float
    fv: float
    silent: bool


REST = MouthParams(0.0, 0.0, 0.0, 0.0, True)


@dataclass(frozen=True)
class Layer:
    """A causal convolution with ReLU. ``weight``: ``(taps * inputs, outputs)``; ``memory``: past hops that it
    needs; ``picks``: ``(hops of a block, taps)`` rows of memory and block together; ``residual``: add the input.
    """

    weight: Array
    bias: Array
    memory: int
    picks: NDArray[np.intp]
    residual: bool


@dataclass(frozen=True)
class VisemeNetwork:
    """The weights, and the answer to endless silence, in which every stream begins."""

    layers: tuple[Layer, ...]
    head: Array
    head_bias: Array
    delay: int
    rest: tuple[Array, ...]

    @property
    def memory(self) -> int:
        """Past hops that shape a frame's mouth: the layers', the running peak's, those that tell a pause."""
        return sum(layer.memory for layer in self.layers) + PEAK_BLOCKS * BLOCK_HOPS + CLOSED_AFTER_HOPS


def _reach(taps: int, dilation: int) -> tuple[int, NDArray[np.intp]]:
    return dilation * (taps - 1), np.arange(BLOCK_HOPS)[:, None] + dilation * np.arange(taps)


def _apply(layer: Layer, window: Array) -> Array:
    rows = window.take(layer.picks, 0).reshape(BLOCK_HOPS, 1, -1)
    out = (rows @ layer.weight)[:, 0]  # one product per row: for so few, BLAS is seven times faster at that
    out += layer.bias
    np.maximum(out, _ZERO, out=out)
    if layer.residual:
        out += window[layer.memory :]
    return out


def _activations(layers: tuple[Layer, ...]) -> tuple[Array, ...]:
    """What each layer remembers after long silence."""
    memories, x = [], np.zeros((BLOCK_HOPS, BANDS), np.float32)
    for layer in layers:
        window = np.concatenate([x] * (layer.memory // BLOCK_HOPS + 2))[: layer.memory + BLOCK_HOPS]
        memories.append(np.ascontiguousarray(window[: layer.memory]))
        x = _apply(layer, window)
    return tuple(memories)


@functools.cache
def load_network(path: str = "") -> VisemeNetwork:
    """The network in ``path``, or the one that comes with the package. Raises :class:`ModelMissing`."""
    try:
        with np.load(path or Path(__file__).with_name(WEIGHTS), allow_pickle=False) as data:
            arrays = {k: np.asarray(data[k]) for k in data.files}
        count = int(arrays["layers"])
        layers = tuple(
            Layer(
                np.ascontiguousarray(arrays[f"w{i}"], np.float32),
                np.ascontiguousarray(arrays[f"b{i}"], np.float32),
                *_reach(int(arrays[f"t{i}"]), int(arrays[f"d{i}"])),
                bool(arrays[f"r{i}"]),
            )
            for i in range(count)
        )
        head, bias = (np.ascontiguousarray(arrays[k], np.float32) for k in ("head", "head_bias"))
        delay = int(arrays["delay"])
        if layers[0].weight.shape[0] != BANDS * layers[0].picks.shape[1] or head.shape[1] != OUTPUTS:
            raise ValueError("shapes do not fit")
        return VisemeNetwork(layers, head, bias, delay, _activations(layers))
    except (OSError, ValueError, KeyError, IndexError) as e:
        raise ModelMissing(f"{path or WEIGHTS} is missing or damaged ({e}): install Visavis again") from e


_ZERO = np.float32(0.0)
_GAIN = np.array([0.5, 1.0, 0.5, 0.5, 0.5], np.float32)
_SHIFT = np.array([0.5, 0.0, 0.5, 0.5, 0.5], np.float32)


def squash(raw: Array) -> Array:
    """Network outputs ``(n, 5)`` → open, width, close, fv, speech: logistic, but tanh for the width."""
    out: Array = np.tanh(raw * _GAIN)
    out *= _GAIN
    out += _SHIFT
    return out


class MouthStream:
    """The mouth at 100 Hz of one piece of audio. ``values[h - first_hop]`` is hop h of the turn:
    open, width, close, fv, speech."""

    def __init__(self, network: VisemeNetwork, origin: int = 0) -> None:
        self._net = network
        self.first_hop = origin // HOP // BLOCK_HOPS * BLOCK_HOPS
        # the first block of features begins early enough that its audio is all silence, whatever the origin
        ahead = -(-(network.delay + 2) // BLOCK_HOPS) * BLOCK_HOPS
        self._features = FeatureStream(origin, self.first_hop + network.delay - ahead)
        self._skip = ahead // BLOCK_HOPS
        self._memory = [m.copy() for m in network.rest]
        self.values = np.empty((0, OUTPUTS), np.float32)
        self.hops = self.first_hop  # first hop without an answer
        self._origin = origin
        self._received = 0
        self._ended = False

    def append(self, pcm: NDArray[np.int16]) -> None:
        """Add audio: int16, 16 kHz, mono, any length."""
        if self._ended:
            raise ValueError("audio after the end of the turn")
        self._received += len(pcm)
        self._features.append(pcm)
        self._drain()

    def end(self) -> None:
        """The audio is complete; silence follows."""
        if self._ended:
            return
        self._ended = True
        last = self._origin + self._received
        blocks = -(-last // (HOP * BLOCK_HOPS)) * BLOCK_HOPS  # hops, whole blocks
        need = (blocks + self._net.delay) * HOP + AFTER - last
        self._features.pad(max(0, need))
        self._drain()

    def _drain(self) -> None:
        while (block := self._features.next_block()) is not None:
            raw = self._block(block)
            if self._skip:
                self._skip -= 1
                continue
            out = squash(raw)
            out[~self._features.heard] = 0.0  # breath and room before the first word look like a whisper
            self._store(out)

    def _store(self, out: Array) -> None:
        used = self.hops - self.first_hop
        if used + BLOCK_HOPS > len(self.values):
            grown = np.empty((max(512, 2 * len(self.values)), OUTPUTS), np.float32)
            grown[:used] = self.values[:used]
            self.values = grown
        self.values[used : used + BLOCK_HOPS] = out
        self.hops += BLOCK_HOPS

    def _block(self, x: Array) -> Array:
        for i, layer in enumerate(self._net.layers):
            window = np.concatenate((self._memory[i], x))
            self._memory[i] = window[BLOCK_HOPS:]
            x = _apply(layer, window)
        return np.asarray((x[:, None] @ self._net.head)[:, 0] + self._net.head_bias)


class VisemeTrack:
    """The mouth of one turn, frame by frame; a pure function of its audio.

    ``origin`` is the turn's sample number of the first appended one. Frames are counted from the turn's
    frame 0; those wholly before ``origin`` are at rest.
    """

    def __init__(self, origin: int = 0, network: VisemeNetwork | None = None) -> None:
        net = network or load_network()
        self._origin = origin
        self._stream = MouthStream(net, origin)
        self._end: int | None = None
        self._samples = origin

    @property
    def ended(self) -> bool:
        """No more audio comes."""
        return self._end is not None

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio: int16, 16 kHz, mono, any length. Raises ``ValueError`` after :meth:`end`."""
        self._samples += len(pcm)
        self._stream.append(pcm)

    def end(self) -> None:
        """No more audio comes."""
        self._end = self._samples
        self._stream.end()

    def ready(self, fps: Fraction) -> int:
        """Frames from the turn's frame 0 that :meth:`params` can answer; after :meth:`end` every frame that
        begins inside the audio."""
        if self._end is not None:
            return _frames_within(self._end, fps)
        k = _frames_within(self._stream.hops * HOP, fps)
        while k and _hops_of(k - 1, fps)[1] > self._stream.hops:
            k -= 1
        return k

    def params(self, k: int, fps: Fraction) -> MouthParams:
        """The mouth of frame ``k``. Raises ``IndexError`` when it is not ready."""
        if not 0 <= k < self.ready(fps):
            raise IndexError(f"frame {k} is not ready: {self.ready(fps)} are")
        stream = self._stream
        first, last = (h - stream.first_hop for h in _hops_of(k, fps))
        have = stream.hops - stream.first_hop
        first, last = max(0, first), min(last, have)
        if first >= last:
            return REST
        v = stream.values[first:last]
        speech = stream.values[max(0, last - CLOSED_AFTER_HOPS) : last, 4]
        silent = float(speech.max()) < 0.5
        if silent:
            return REST
        mean = v.mean(0)
        opening = min(1.0, OPEN_GAIN * float(mean[0]))
        near = stream.values[max(0, first - 1) : last]
        close, fv = (max(float(mean[i]), _firmest(near[:, i])) for i in (2, 3))
        sure = stream.values[max(0, first - 2) : last]
        if not _is_firm(sure[:, 2], FIRM):
            close = min(UNSURE, float(mean[2]))
        if not _is_firm(sure[:, 3], FIRM_FV):
            fv = float(mean[3])
        return MouthParams(opening, float(mean[1]), close, fv, False)


def _is_firm(sure: Array, least: float) -> bool:
    """Whether these hops, whose last one goes on a little, are so sure: a doubt of a hop or two is no closure."""
    goes_on = np.append(sure, 0.8 * sure[-1])
    return float((goes_on[2:] + goes_on[1:-1] + goes_on[:-2]).max(initial=0.0)) >= least


def _firmest(sure: Array) -> float:
    """The highest peak after the first hop, which is the slot before's; at the end, rising is enough. A closure
    shorter than a frame is shown shut where it is firmest, and the frame after it no longer."""
    risen = np.flatnonzero(sure[1:] >= sure[:-1]) + 1
    return max((float(sure[i]) for i in risen if i + 1 == len(sure) or sure[i] > sure[i + 1]), default=0.0)


def _hops_of(k: int, fps: Fraction) -> tuple[int, int]:
    """First and last+1 hop whose middle lies in the slot of frame k."""
    return tuple((frame_start(i, fps) + HOP // 2 - 1) // HOP for i in (k, k + 1))  # type: ignore[return-value]


def _frames_within(sample: int, fps: Fraction) -> int:
    """Frames that begin before ``sample``."""
    k = int(sample * fps.numerator // (16_000 * fps.denominator))
    return k + 1 if frame_start(k, fps) < sample else k
