"""One JSON line per event on standard error."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

LEVELS = ("debug", "info", "warning", "error")


class Log:
    """Writes events at ``level`` and above. Never audio, text or keys: only ids, counts and sentences."""

    def __init__(self, level: str = "info", **fields: Any) -> None:
        self._least = LEVELS.index(level)
        self._fields = fields

    def bind(self, **fields: Any) -> Log:
        """The same log with fields that every line carries."""
        return Log(LEVELS[self._least], **self._fields, **fields)

    def debug(self, event: str, **fields: Any) -> None:
        """For developers."""
        self._write(0, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self._write(1, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something was refused or lost; service goes on."""
        self._write(2, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Service is impaired."""
        self._write(3, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if level < self._least:
            return
        stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        line = {"time": stamp, "level": LEVELS[level], "event": event, **self._fields, **fields}
        try:
            sys.stderr.write(json.dumps(line, default=str) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # nobody reads the log any more; that must not stop a stream
