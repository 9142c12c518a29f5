"""What objects hold: everything that can be reached from some of them, counted, for calls that last."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import types
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_SHARED = (type, types.ModuleType, types.FrameType, types.BuiltinFunctionType, types.CodeType, logging.Logger)
"""Of the program, not of its objects."""


@dataclass(frozen=True)
class Held:
    """``objects`` by type, and their ``octets``."""

    objects: Counter[str] = field(default_factory=Counter)
    octets: int = 0

    def grown_by(self, later: Held) -> str:
        """In words, for an assertion: more octets, and of which types there are more."""
        more = ", ".join(f"{count} {name}" for name, count in (later.objects - self.objects).most_common(8))
        return f"{later.octets - self.octets} octets: {more}"


def held(*roots: object) -> Held:
    """What is reached from ``roots``, without classes, modules, what functions see of them, and the event loop."""
    gc.collect()
    seen: dict[int, Any] = {}
    waiting: list[Any] = list(roots)
    objects: Counter[str] = Counter()
    octets = 0
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (*_SHARED, asyncio.AbstractEventLoop)):
            continue
        seen[id(thing)] = thing
        objects[type(thing).__name__] += 1
        octets += sys.getsizeof(thing)
        if isinstance(thing, types.FunctionType):
            waiting += [*(thing.__closure__ or ()), thing.__defaults__]
        else:
            waiting += gc.get_referents(thing)
    return Held(objects, octets)
