"""Which lines of a module have run."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any


class Lines:
    """Notes the lines of some modules that run while it is entered, in this thread; may be entered again."""

    def __init__(self, *modules: ModuleType) -> None:
        self._ran: dict[str, set[int]] = {str(inspect.getsourcefile(module)): set() for module in modules}
        self._before: Any = None

    def __enter__(self) -> Lines:
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        ran = self._ran.get(frame.f_code.co_filename)
        if ran is None:
            return None
        ran.add(frame.f_lineno)

        def line(frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
            ran.add(frame.f_lineno)
            return line

        return line

    def add(self, file: Path) -> None:
        """What :class:`LinesOnDisk` has noted in other processes."""
        for name, number in (line.rsplit(":", 1) for line in file.read_text().splitlines()):
            if name in self._ran:
                self._ran[name].add(int(number))

    def missing(self, *of: Any) -> list[str]:
        """``file:line: text`` of every line of these functions and classes that has not run."""
        out = []
        for one in of:
            file = str(inspect.getsourcefile(one))
            source = Path(file).read_text().splitlines()
            lines = {n for code in _codes(one) for n in _lines(code)}
            out += [f"{file}:{n}: {source[n - 1].strip()}" for n in sorted(lines - self._ran[file])]
        return out


class LinesOnDisk:
    """Appends each line of one module to ``out`` as it first runs, in this thread, until the process ends."""

    def __init__(self, out: Path, module: str) -> None:
        self._out = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._module = module
        self._ran: set[int] = set()

    def start(self) -> None:
        """From here on."""
        sys.settrace(self._call)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename.endswith(self._module) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        if frame.f_lineno not in self._ran:
            self._ran.add(frame.f_lineno)
            os.write(self._out, f"{frame.f_code.co_filename}:{frame.f_lineno}\n".encode())
        return self._line


def _codes(one: Any) -> Iterator[CodeType]:
    if inspect.isclass(one):
        for value in vars(one).values():
            value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(value) and value.__module__ == one.__module__:
                yield value.__code__
    else:
        yield inspect.unwrap(one).__code__


def _lines(code: CodeType) -> set[int]:
    """Of a function and those inside it; not the ``def`` lines, which run when the function is made."""
    own = {n for _, _, n in code.co_lines() if n is not None and n > code.co_firstlineno}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            own |= _lines(inner)
    return own
