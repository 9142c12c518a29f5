"""Which lines of a module have run."""

from __future__ import annotations

import inspect
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

    def missing(self, *of: Any) -> list[str]:
        """``file:line: text`` of every line of these functions and classes that has not run."""
        out = []
        for one in of:
            file = str(inspect.getsourcefile(one))
            source = Path(file).read_text().splitlines()
            lines = {n for code in _codes(one) for n in _lines(code)}
            out += [f"{file}:{n}: {source[n - 1].strip()}" for n in sorted(lines - self._ran[file])]
        return out


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
