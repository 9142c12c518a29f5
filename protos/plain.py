"""The contract's messages as plain Python values, out of protoc's descriptors (with comments).

One frozen dataclass for every message that travels as JSON, too, and ``FIELDS``, the table by which
:mod:`visavis.contract` reads and writes them.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

ROOTS = ("Capabilities", "Capacity", "ConverseRequest", "ConverseResponse")
"""What a JSON client hears and says, and all that these name."""
ONEOFS = {"ConverseRequest": "REQUESTS", "ConverseResponse": "RESPONSES"}
VALUES = {
    "FrameRate": "Fraction",
    "Rect": "Rect",
    "LoopJump": "tuple[int, int]",
    "LoopSegment": "tuple[int, str]",
}
"""Messages that are one value of Python's or of the library's, not a class of their own."""
BINARY = {"Frame"}
"""Drawn, not described: :class:`visavis.frames.Frame`, whose layout is its own on every transport."""
BASES = {"Avatar": "(Sized)"}
SCALARS = {"bool": "bool", "string": "str", "bytes": "bytes", "float": "float"}
NONE = {"frozenset[str]": "frozenset()"}
DEFAULT = re.compile(r"(?:^|[;,:]? )default (\S+)$")
"""At the end of a field's comment."""
WIDTH = 110

HEAD = '''"""The contract's messages as plain values, and the table that codecs read and write them by.

Made by `make proto` from protos/visavis/avatar/v1/avatar.proto: change that, not this.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from visavis.frames import Rect, Sized

'''

FIELD = '''class Field(NamedTuple):
    """A field: ``kind`` is protobuf's word, ``enum``, ``message``, or the name of a message that is a plain value.

    ``of`` is the enum's name or the message's class. ``optional``: may be ``None``, and then does not travel.
    ``required``: JSON must have it. ``doc`` says what it is.
    """

    name: str
    kind: str
    of: Any = None
    repeated: bool = False
    optional: bool = False
    required: bool = True
    doc: str = ""


'''


def snake(number: int) -> str:
    return FieldDescriptorProto.Type.Name(number).removeprefix("TYPE_").lower()  # type: ignore[arg-type]


def local(name: str) -> str:
    return name.rpartition(".")[2]


class Plain:
    """One .proto file as Python source."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._messages = {m.name: m for m in file.message_type}
        self._enums = {e.name: e for e in file.enum_type}
        self._docs: dict[tuple[int, ...], str] = {
            tuple(at.path): " ".join((at.leading_comments or at.trailing_comments).split())
            for at in file.source_code_info.location
        }
        self._at = {m.name: (4, index) for index, m in enumerate(file.message_type)}

    def source(self) -> str:
        wanted = list(dict.fromkeys(self._below(ROOTS)))
        parts = [HEAD, *(self._alias(e) for e in self._enums.values()), "\n\n"]
        parts += [self._class(self._messages[name]) for name in wanted]
        parts += [FIELD, "FIELDS: dict[type, tuple[Field, ...]] = {\n"]
        parts += [self._rows(self._messages[name]) for name in wanted]
        parts += ["}\n", '"""Of each message, in the order in which JSON shows them."""\n\n']
        for root, name in ONEOFS.items():
            chosen = [f for f in self._messages[root].field if local(f.type_name) in wanted]
            pairs = "".join(f'    "{f.name}": {local(f.type_name)},\n' for f in chosen)
            parts.append(f"{name}: dict[str, type] = {{\n{pairs}}}\n")
        parts += ["\nENUMS: dict[str, dict[str, int]] = {\n"]
        parts += [f'    "{e.name}": {self._words(e)!r},\n'.replace("'", '"') for e in self._enums.values()]
        return "".join([*parts, "}\n", '"""Words and numbers; 0 is taken as the first."""\n'])

    def _below(self, names: Iterable[str]) -> Iterator[str]:
        """Messages that these name, each before those that need it, without the roots that are a mere choice."""
        for name in names:
            if name in VALUES or name in BINARY:
                continue
            yield from self._below(
                local(f.type_name) for f in self._messages[name].field if snake(f.type) == "message"
            )
            if name not in ONEOFS:
                yield name

    def _words(self, enum: EnumDescriptorProto) -> dict[str, int]:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
        return {v.name.removeprefix(prefix).lower(): v.number for v in enum.value if v.number}

    def _alias(self, enum: EnumDescriptorProto) -> str:
        words = ", ".join(f'"{word}"' for word in self._words(enum))
        return f"{enum.name} = Literal[{words}]\n"

    def _doc(self, message: DescriptorProto, index: int) -> str:
        return DEFAULT.sub("", self._docs.get((*self._at[message.name], 2, index), ""))

    def _default(self, message: DescriptorProto, index: int) -> str | None:
        """As Python's source; ``None`` where JSON must have the field."""
        field = message.field[index]
        if field.proto3_optional:
            return "None"
        told = DEFAULT.search(self._docs.get((*self._at[message.name], 2, index), ""))
        if told is None:
            return None
        kind, word = snake(field.type), told[1]
        if field.label == field.LABEL_REPEATED:
            return NONE.get(self._type(field), "()")
        if kind == "bool":
            return word.title()
        return {"bytes": f"b{word}", "enum": f'"{word}"'}.get(kind, word)

    def _type(self, field: FieldDescriptorProto) -> str:
        kind = snake(field.type)
        one = SCALARS.get(kind, "int")
        if kind in ("message", "enum"):
            one = VALUES.get(local(field.type_name), local(field.type_name))
        if field.label == field.LABEL_REPEATED:
            return "frozenset[str]" if one == "str" else f"tuple[{one}, ...]"
        return f"{one} | None" if field.proto3_optional else one

    def _class(self, message: DescriptorProto) -> str:
        doc = self._docs.get(self._at[message.name], "")
        if not doc:
            raise SystemExit(f"{message.name} needs a comment that says what it is.")
        lines = ["@dataclass(frozen=True, slots=True)", f"class {message.name}{BASES.get(message.name, '')}:"]
        lines += [*_wrapped(f'"""{doc}', "    "), ""]
        lines[-2] += '"""' if len(lines) == 4 else '\n    """'
        required = [i for i in range(len(message.field)) if self._default(message, i) is None]
        for index, field in enumerate(message.field):
            default, about = self._default(message, index), self._doc(message, index)
            line = f"    {field.name}: {self._type(field)}"
            if default is not None and index > max(
                required
            ):  # a value before one that must be given has none
                line += f" = {default}"
            if about and len(line) + len(about) + 4 > WIDTH:
                lines += _wrapped(f"# {about}", "    ", "    # ")
            elif about:
                line += f"  # {about}"
            lines.append(line)
        return "\n".join([*lines, "\n\n"])

    def _rows(self, message: DescriptorProto) -> str:
        rows = [f"    {message.name}: (\n"]
        for index, field in enumerate(message.field):
            kind, name = snake(field.type), local(field.type_name)
            row = [f'"{field.name}"', f'"{name if name in VALUES else kind}"']
            if kind == "enum":
                row.append(f'"{name}"')
            elif kind == "message" and name not in VALUES:
                row.append(name)
            if field.label == field.LABEL_REPEATED:
                row.append("repeated=True")
            if field.proto3_optional:
                row.append("optional=True")
            if self._default(message, index) is not None:
                row.append("required=False")
            if about := self._doc(message, index):
                row.append(f"doc={json.dumps(about)}")
            rows.append(f"        Field({', '.join(row)}),\n")
        return "".join([*rows, "    ),\n"])


def _wrapped(text: str, first: str, others: str | None = None) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others or first)


def write(descriptors: Path, out: Path) -> None:
    """Make ``out`` of what protoc wrote."""
    files = FileDescriptorSet.FromString(descriptors.read_bytes())
    out.write_text(Plain(files.file[-1]).source())
