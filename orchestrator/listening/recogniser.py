"""What was said, in English: Moonshine tiny-en (MIT) by onnxruntime, weights out of ``moonshine-voice``'s wheel.

The package itself is never imported: it brings a library of its own, of which nothing is needed here.
Model: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.listening.runtime import load

LANGUAGE = "en"
_PACKAGE, _FOLDER = "moonshine-voice", "assets/tiny-en"
_START, _END, _FIRST_TEXT = 1, 2, 3
_TOKENS_PER_SECOND = 6.5
_FEWEST_SAMPLES = 3200
_QUIET_AFTER = 6400
"""Samples of silence that follow an utterance: without, its last words are less often right."""


class NoModel(RuntimeError):
    """The weights are not installed: one sentence."""


def model_files() -> dict[str, Path]:
    """The files of the model by name. Raises :class:`NoModel`."""
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    found = {each.name: Path(str(each.locate())) for each in files if _FOLDER in each.as_posix()}
    if not {"encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"} <= found.keys():
        raise NoModel(f"the weights of {_PACKAGE} 0.1.0 are not installed: run make setup")
    return found


def read_tokens(data: bytes) -> list[bytes]:
    """The vocabulary: each entry's length (one byte, or two of 7 bits), then UTF-8 with U+2581 for a space."""
    out: list[bytes] = []
    at = 0
    while at < len(data):
        size = data[at]
        at += 1
        if size >= 128:
            size += data[at] * 128 - 128
            at += 1
        out.append(data[at : at + size])
        at += size
    return out


class Recogniser:
    """Takes about 60 ms of CPU for an utterance; runs in any thread, one utterance at a time."""

    def __init__(self) -> None:
        files = model_files()
        self._encoder = load(files["encoder_model.ort"])
        self._decoder = load(files["decoder_model_merged.ort"])
        self._tokens = read_tokens(files["tokenizer.bin"].read_bytes())
        past = [each for each in self._decoder.get_inputs() if each.name.startswith("past")]
        self._empty = {each.name: np.zeros((1, each.shape[1], 0, each.shape[3]), np.float32) for each in past}
        self._outputs = [each.name for each in self._decoder.get_outputs()][1:]

    def __call__(self, sound: NDArray[np.float32]) -> str:
        """The words in ``(n,)`` samples at 16 kHz, full scale 1.0; "" where there are none."""
        if not sound.any():
            return ""
        if len(sound) < _FEWEST_SAMPLES:
            sound = np.pad(sound, (0, _FEWEST_SAMPLES - len(sound)))
        batch = np.pad(sound, (0, _QUIET_AFTER))[None].astype(np.float32)
        mask = np.ones(batch.shape, np.int64)
        hidden = self._encoder.run(None, {"input_values": batch, "attention_mask": mask})[0]
        most = max(4, int(len(sound) / 16_000 * _TOKENS_PER_SECOND) + 4)
        past, last, ids = dict(self._empty), _START, list[int]()
        while len(ids) < most:
            logits, *present = self._decoder.run(
                None,
                {
                    "encoder_attention_mask": mask,
                    "input_ids": np.array([[last]]),
                    "encoder_hidden_states": hidden,
                    "use_cache_branch": np.array([bool(ids)]),
                    **past,
                },
            )
            for name, value in zip(self._outputs, present, strict=True):
                if not ids or ".decoder." in name:  # those of the encoder come once
                    past[name.replace("present", "past_key_values")] = value
            last = int(logits[0, -1].argmax())
            if last == _END:
                break
            ids.append(last)
        words = b"".join(self._tokens[each] for each in ids if each >= _FIRST_TEXT)
        return words.decode("utf-8", "ignore").replace("\u2581", " ").strip()
