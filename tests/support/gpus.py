"""GPUs for a server process under test: CUDA stood in at its outer edge (``cuda.py``), steered while it runs.

A test makes :class:`Gpus` and starts a server with its ``environ``. Python then runs ``with_cuda/sitecustomize.py``
before everything else in each process, and an engine process finds the GPUs through :func:`appear`. Nothing of the
product is replaced, and nothing in it knows.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from tests.support.lines import LinesOnDisk

ROOT = Path(__file__).resolve().parents[2]
_GPU = struct.Struct("<qqqq")
"""Bytes of the largest tensor that fits; whether it is lost; the capture that fails; µs of a replay, per row."""
MOST = 8
LARGEST = 16 << 30


class Gpus:
    """``count`` GPUs, whose state lies in ``folder``."""

    def __init__(
        self, folder: Path, count: int = 1, *, lines: Path | None = None, row_ms: float = 1.0
    ) -> None:
        self._file = folder / "gpus"
        self._file.write_bytes(b"\0" * (_GPU.size * MOST))
        self._row_us = round(row_ms * 1000)
        self._count = count
        self.environ = {
            "PYTHONPATH": os.pathsep.join((str(ROOT / "tests/support/with_cuda"), str(ROOT))),
            "VISAVIS_TEST_GPUS": f"{count}:{self._file}",
            **({"VISAVIS_TEST_LINES": str(lines)} if lines else {}),
        }
        for index in range(count):
            self.mend(index)

    def full(self, index: int = 0, largest: int = 0) -> None:
        """From here on no tensor of more than ``largest`` bytes fits into its memory."""
        self._write(index, largest, lost=False)

    def full_at_capture(self, number: int, index: int = 0) -> None:
        """Its memory is full while graph ``number`` of a process is captured, from 0 on."""
        self._write(index, LARGEST, lost=False, capture=number)

    def lose(self, index: int = 0) -> None:
        """Whatever is asked of it from here on fails, in new processes, too."""
        self._write(index, LARGEST, lost=True)

    def mend(self, index: int = 0) -> None:
        """All is well with it again."""
        self._write(index, LARGEST, lost=False)

    def _write(self, index: int, largest: int, lost: bool, capture: int = -1) -> None:
        with self._file.open("r+b") as file:
            file.seek(index * _GPU.size)
            file.write(_GPU.pack(largest, lost, capture, self._row_us))


class _Here:
    """Setting attributes for the life of a process."""

    def setattr(self, target: object, name: str, value: object, raising: bool = True) -> None:
        """As ``pytest.MonkeyPatch`` has it."""
        setattr(target, name, value)


def appear() -> None:
    """In an engine process: the GPUs that ``CUDA_VISIBLE_DEVICES`` lets it see, until it ends."""
    import torch

    from tests.support.cuda import Cuda

    count, _, name = os.environ["VISAVIS_TEST_GPUS"].partition(":")
    visible = list(range(int(count)))
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        names = [f"GPU-{Cuda.uuid(index)}" for index in visible]
        asked = [word for word in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if word]
        visible = [names.index(word) if word in names else int(word) for word in asked]
    with Path(name).open("rb") as file:
        state = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    cuda = Cuda(len(visible))
    cuda.physical = visible

    def look() -> None:
        largest, lost, capture, _ = _GPU.unpack_from(state, visible[cuda.device] * _GPU.size)
        at = cuda.capturing.number if cuda.capturing is not None else None
        cuda.largest = 0 if at == capture else largest
        if lost:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    def replay_s(graph: int) -> float:
        return float(_GPU.unpack_from(state, visible[cuda.device] * _GPU.size)[3]) * 2**graph / 1e6

    cuda.check, cuda.replay_s = look, replay_s
    cuda.install(_Here())
    cuda.__enter__()
    if file_of_lines := os.environ.get("VISAVIS_TEST_LINES"):
        LinesOnDisk(Path(file_of_lines), "inference_server/engines/musetalk/engine.py").start()
