"""What MuseTalk's streaming hears beside its offline pass over the whole clip, on a CPU.

    python -m bench.engine.hearing [--dir models] [--wav speech.wav]

Relative L2 of the log-mel in the first 0.6 s of a turn, at three levels of the voice: of a conversation's first
turn and of a later one, each spoken in real time and as a burst. With --dir (the official files, of which it reads
Whisper's alone) also of the 10 x 5 x 384 features that a frame is drawn from, by the audio after it that is there.
Without --wav the embedded English voice speaks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from inference_server.engines.musetalk import mel
from inference_server.engines.musetalk.checkpoint import encoder_weights, read_weights
from inference_server.engines.musetalk.encoder import SpeechEncoder
from inference_server.engines.musetalk.speech import HISTORY, Plan, Speech, feature_of
from orchestrator.speech.hibari import HibariVoice
from visavis.audio import Resampler

FPS = Fraction(25)
FIRST = 15  # frames: 0.6 s
LEVELS = (-20.0, -27.0, -35.0)  # dBFS of what is spoken, its pauses apart
TEXTS = (
    "Good morning, this is the office of Doctor Miller. How can I help you today?",
    "Yes, your parcel will arrive on Monday between nine and twelve, and somebody has to be there.",
    "I am sorry, I did not understand that. Could you please repeat your number?",
    "Thank you. We have found your order, and it has already left our warehouse in Leeds.",
)
PCM = NDArray[np.int16]


async def spoken() -> list[PCM]:
    """The sentences by the embedded voice, at 16 kHz, each from its first sound on."""
    voice, out = HibariVoice(), []
    for text in TEXTS:
        resampler = Resampler(voice.sample_rate)
        pieces = [resampler.push(piece) async for piece in voice.stream(text, "en")]
        out.append(np.concatenate(pieces))
    return out


def read(path: Path) -> list[PCM]:
    """A WAV file of 16 kHz mono, in turns of five seconds."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (mel.RATE, 1, 2):
            raise SystemExit(f"{path} must be 16 kHz, mono, 16 bit")
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return [pcm[at : at + 5 * mel.RATE] for at in range(0, len(pcm) - mel.RATE, 5 * mel.RATE)]


def at_level(pcm: PCM, dbfs: float) -> PCM:
    """From its first sound on, so loud where it speaks."""
    hops = pcm[: len(pcm) // 160 * 160].reshape(-1, 160).astype(np.float64)
    power = (hops**2).mean(axis=1)
    loud = power > power.max() / 1000
    began = int(np.flatnonzero(loud)[0]) * 160
    gain = 32768 * 10 ** (dbfs / 20) / np.sqrt(power[loud].mean())
    return np.clip(pcm[began:] * gain, -32768, 32767).astype(np.int16)


def offline(pcm: PCM) -> NDArray[np.float32]:
    """``(3000, 80)``: Whisper's own log-mel of 30 s."""
    samples = np.zeros(30 * mel.RATE)
    samples[: len(pcm)] = pcm[: len(samples)] / 32768.0
    padded = np.pad(samples, mel.WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, mel.WINDOW)[:: mel.HOP][:3000]
    logs = mel.decades(np.ascontiguousarray(windows))
    return mel.scale(logs, float(logs.max()))


def heard(pcm: PCM, ahead_ms: int, level: float) -> Iterator[tuple[int, Speech]]:
    """Each frame, with ``ahead_ms`` of audio after it there."""
    speech = Speech(Plan(further=30), FPS, expected=level)
    at = 0
    for frame in range(len(pcm) // 640 - ahead_ms // 40 - 2):
        upto = (frame + 1) * 640 + ahead_ms * 16 + 640  # mel comes in blocks of four hops
        speech.append(pcm[at:upto])
        at = max(at, upto)
        yield frame, speech


def first_error(turns: list[PCM], ahead_ms: int, later: bool) -> float:
    """Relative L2 over the first frames' log-mel; ``later``: the turn before was the one before in the list."""
    wrong = whole = 0.0
    for n, pcm in enumerate(turns):
        level = mel.SEED
        if later:
            before = Speech(Plan(), FPS)
            before.append(turns[n - 1])
            level = before.level
        wanted = offline(pcm)
        for frame, speech in heard(pcm, ahead_ms, level):
            if frame == FIRST:
                break
            own = speech.hear(frame)
            start = 2 * own.first
            stop = start + 2 * feature_of(frame, FPS) + 10  # up to the end of the frame's own features
            part = wanted[: stop - start]
            wrong += float(((own.mel[start:stop] - part) ** 2).sum())
            whole += float((part**2).sum())
    return float(np.sqrt(wrong / whole))


@torch.inference_mode()
def window_error(turns: list[PCM], root: Path, ahead_ms: int) -> float:
    """Mean relative L2 of frames' features against the offline pass, every tenth frame."""
    config = WhisperConfig.from_dict(json.loads((root / "whisper" / "config.json").read_text()))
    config._attn_implementation = "sdpa"
    whisper = WhisperEncoder(config)
    whisper.train(False)
    files = [p for p in (root / "whisper").iterdir() if p.suffix in (".bin", ".safetensors")]
    whisper.load_state_dict(encoder_weights(read_weights(files[0])))
    encoder = SpeechEncoder(whisper, Plan(further=30).window)
    zero = torch.zeros(1, dtype=torch.int64)
    errors = []
    for pcm in turns:
        whole = encoder.features(torch.from_numpy(offline(pcm).T.copy())[None], zero, zero, zero)[0]
        for frame, speech in heard(pcm, ahead_ms, mel.SEED):
            if frame % 10 != 5:
                continue
            own = speech.hear(frame)
            places = [torch.tensor([n]) for n in (own.first, own.position, own.missing)]
            states = encoder.features(torch.from_numpy(own.mel.T.copy())[None], *places)[0]
            at = feature_of(frame, FPS) - 4
            mine, theirs = states[HISTORY - 4 : HISTORY + 6], whole[at : at + 10]
            errors.append(float((mine - theirs).norm() / theirs.norm()))
    return float(np.mean(errors))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dir", type=Path, help="folder of weights, with whisper/ in it")
    parser.add_argument("--wav", type=Path, help="speech, 16 kHz mono")
    options = parser.parse_args()
    turns = read(options.wav) if options.wav else asyncio.run(spoken())
    print("log-mel of the first 0.6 s, relative L2     first turn   later turn")
    for level in LEVELS:
        loud = [at_level(pcm, level) for pcm in turns]
        for name, ahead in (("in real time", 100), ("in a burst", 400)):
            first, later = (first_error(loud, ahead, which) for which in (False, True))
            print(f"{level:5.0f} dBFS, {name:14}                        {first:.3f}        {later:.3f}")
    if options.dir:
        print("a frame's features at -27 dBFS, relative L2")
        turns = [at_level(pcm, -27.0) for pcm in turns]
        for ahead in (100, 200, 300, 400):
            print(f"{ahead} ms after it there    {window_error(turns, options.dir, ahead):.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
