"""Text from elsewhere, made fit to be shown: no control, no reordering, always UTF-8."""

from __future__ import annotations

import json
import re
from typing import Any

_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters (C0, C1), line separators, marks that reorder text or show nothing, and lone surrogates."""


def escaped(text: str, *, lines: bool = False) -> str:
    r"""``text`` with what no terminal, log or page should get as ``\x9b``, ``\u202e`` or ``\U000e0001``.

    Bytes that were no UTF-8 and came by ``surrogateescape`` stand as themselves, ``\xff``. With ``lines`` line
    feeds and tabulators stay. What has been escaped once is not changed again.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNFIT.sub(lambda found: _named(found[0], lines=lines), text)


def read_json(text: str | bytes) -> Any:
    """A peer's JSON, which can be written as JSON again.

    Half a surrogate pair (RFC 8259 section 8.2) becomes a question mark. Raises ``ValueError``, also for numbers
    that are none (NaN, 1e999).
    """
    try:
        value = json.loads(text)
        again = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    try:
        again.encode()
    except UnicodeEncodeError:
        value = json.loads(again.encode("utf-8", "replace"))
    return value


def _named(char: str, *, lines: bool) -> str:
    code = ord(char)
    if lines and char in "\n\t":
        return char
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
