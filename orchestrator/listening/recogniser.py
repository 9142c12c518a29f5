"""What was said, in English: Moonshine tiny-en (MIT) by onnxruntime, weights out of ``moonshine-voice``'s wheel.

The package itself is never imported: it brings a library of its own, of which nothing is needed here.
Model: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.listening.context import Understood, fitting
from orchestrator.listening.runtime import load

LANGUAGE = "en"
_PACKAGE, _FOLDER = "moonshine-voice", "assets/tiny-en"
_START, _END, _FIRST_TEXT = 1, 2, 3
_TOKENS_PER_SECOND = 6.5
_FEWEST_SAMPLES = 3200
_QUIET_AFTER = 6912
"""Samples of silence that follow an utterance: without, its last words are less often right."""
_MARKS = ".,?!;:-"
_DOUBTFUL = -0.5
"""Mean logarithm of the probability of an utterance's tokens, below which it may not go on with those before."""


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
    """Takes about 70 ms of CPU for an utterance; runs in any thread, one utterance at a time."""

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
        return self.understand(sound).text

    def understand(self, sound: NDArray[np.float32], before: Sequence[Understood] = ()) -> Understood:
        """An utterance as above, that goes on with those ``before`` it, if there are any.

        They are heard once more with it, and their words, which stay, lead to its own. A mark at their end does not
        stay: it was set because they ended there.
        """
        if not sound.any():
            return Understood(sound, (), "")
        before = fitting(before, len(sound))
        spoken = np.concatenate([*(each.sound for each in before), sound])
        known = [each for utterance in before for each in utterance.tokens]
        while known and not self._text(known[-1:]).strip(_MARKS):
            known.pop()
        tokens, likely = self._decode(spoken, known, len(sound))
        if known and likely < _DOUBTFUL:  # those before may have been understood wrongly
            alone, alone_likely = self._decode(sound, (), len(sound))
            tokens = alone if alone_likely > likely else tokens
        return Understood(sound, tuple(tokens), self._text(tokens).lstrip(_MARKS + " "))

    def _text(self, tokens: Sequence[int]) -> str:
        words = b"".join(self._tokens[each] for each in tokens if each >= _FIRST_TEXT)
        return words.decode("utf-8", "ignore").replace("\u2581", " ").strip()

    def _decode(self, sound: NDArray[np.float32], known: Sequence[int], new: int) -> tuple[list[int], float]:
        """The tokens that follow those ``known``, of a sound of whose samples so many are ``new``; and the mean of
        the logarithms of their probabilities, the lowest there is where there are none."""
        sound = np.pad(sound, (0, max(0, _FEWEST_SAMPLES - len(sound))))
        batch = np.pad(sound, (0, _QUIET_AFTER))[None].astype(np.float32)
        mask = np.ones(batch.shape, np.int64)
        hidden = self._encoder.run(None, {"input_values": batch, "attention_mask": mask})[0]
        most = max(4, int(new / 16_000 * _TOKENS_PER_SECOND) + 4)
        past, last, ids, likely = dict(self._empty), [_START, *known], list[int](), 0.0
        while len(ids) < most:
            logits, *present = self._decoder.run(
                None,
                {
                    "encoder_attention_mask": mask,
                    "input_ids": np.array([last]),
                    "encoder_hidden_states": hidden,
                    "use_cache_branch": np.array([bool(ids)]),
                    **past,
                },
            )
            for name, value in zip(self._outputs, present, strict=True):
                if not ids or ".decoder." in name:  # those of the encoder come once
                    past[name.replace("present", "past_key_values")] = value
            last = [int(logits[0, -1].argmax())]
            likely += float(logits[0, -1].max() - np.logaddexp.reduce(logits[0, -1]))
            if last == [_END]:
                break
            ids += last
        return ids, likely / (len(ids) + 1) if ids else -np.inf
