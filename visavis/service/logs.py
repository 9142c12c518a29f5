"""Structured logs: one line per event, JSON for programs and plain text on a terminal."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from visavis.service.text import escaped

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "fields"}
_NUMBERED = ("caller", "dialled", "to", "user")
"""Fields that may have somebody's number."""
_NUMBER = re.compile(r"\d(?:[-.()]*\d)+(?=(?:[-.()]*\d){3})")
"""With visual separators (RFC 3966, section 5.1.1), all but its last three digits."""
_OURS = ("inference_server", "orchestrator", "visavis")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given beside the event's name."""
    return getattr(record, "fields", {}) | {k: v for k, v in vars(record).items() if k not in _STANDARD}


class TerminalFormatter(logging.Formatter):
    """``12:34:56 orchestrator started api=127.0.0.1:8080``: for a person; warnings and errors say so first."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, a trace below it."""
        words = [time.strftime("%H:%M:%S", time.localtime(record.created)), record.name.partition(".")[0]]
        if record.levelno >= logging.WARNING:
            words.append(record.levelname)
        words.append(escaped(_event(record)))
        words += [
            f"{escaped(key)}={_word(value)}"
            for key, value in _fields(record).items()
            if value not in ("", None, [], ())
        ]
        trace = "\n" + _text(self.formatException(record.exc_info)) if record.exc_info else ""
        return " ".join(words) + trace


def _word(value: object) -> str:
    """A value on a terminal; a text of several words in quotation marks."""
    if isinstance(value, Mapping):
        return ",".join(f"{escaped(str(key))}:{_word(each)}" for key, each in value.items() if each)
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(_word(each) for each in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = escaped(str(value))
    return f'"{text}"' if " " in text or not text else text


class _Told(str):
    """An event whose message tells its fields too: an ordinary application's formatter prints messages alone."""

    fields: Mapping[str, Any]

    def __new__(cls, event: str, fields: Mapping[str, Any]) -> _Told:
        told = super().__new__(cls, event)
        told.fields = fields
        return told

    def __str__(self) -> str:
        told = [f"{key}={_shown(value)}" for key, value in self.fields.items() if value not in ("", None)]
        return f"{self[:]}: {' '.join(told)}" if told else self[:]


def _event(record: logging.LogRecord) -> str:
    return record.msg[:] if isinstance(record.msg, _Told) else record.getMessage()


def _shown(value: object) -> str:
    text = _text(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=') else text


class JsonFormatter(logging.Formatter):
    """``time``, ``level``, ``logger``, ``event`` and whatever was given as ``extra``.

    Whatever is logged, the line is valid UTF-8, without control or reordering characters.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        for key, value in getattr(record, "fields", {}).items():
            line.setdefault(key, value)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(_fit(line), default=_text, ensure_ascii=False)


def _text(value: object) -> str:
    return escaped(str(value), lines=True)


def _fit(value: Any) -> Any:
    """The same with every string in it fit to be shown; JSON itself spells out line feeds."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(key): _fit(each) for key, each in value.items()}
    return [_fit(each) for each in value] if isinstance(value, list | tuple) else value


class Log:
    """Events of one logger, with fields that every line carries: only ids, counts and sentences."""

    def __init__(self, name: str, /, **fields: Any) -> None:
        self._logger = logging.getLogger(name)
        self._fields = fields
        self._spelt_out = not name.startswith(
            ("inference_server", "orchestrator")
        )  # they log JSON lines always

    def bind(self, **fields: Any) -> Log:
        """The same log with more fields."""
        return Log(self._logger.name, **self._fields, **fields)

    def debug(self, event: str, /, **fields: Any) -> None:
        """For developers."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Something happened as it should."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something was refused or lost; service goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Service is impaired."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, error: BaseException | None = None, /, **fields: Any) -> None:
        """A mistake of ours, with the trace of ``error`` or of the exception that is being handled."""
        self._write(logging.ERROR, event, fields, exc_info=error or True)

    def _write(self, level: int, event: str, fields: dict[str, Any], **options: Any) -> None:
        told = self._fields | fields
        message = _Told(event, told) if self._spelt_out else event
        self._logger.log(level, message, extra={"fields": told}, **options)


def without_numbers(record: logging.LogRecord) -> bool:
    """A filter that leaves the last three digits of the numbers of whoever calls and is called."""
    record.fields = {
        key: _shortened(value) if key in _NUMBERED and isinstance(value, str) else value
        for key, value in getattr(record, "fields", {}).items()
    }
    return True


def _shortened(party: str) -> str:
    user, at, host = party.partition("@")
    if not at and user[:3].lower() == "sip":  # a host alone
        return party
    return _NUMBER.sub("…", user) + at + host


def configure_logging(level: str = "info", *, numbers: bool = True) -> None:
    """Lines on standard error: ours of at least ``level``, and the warnings of other libraries. Without ``numbers``
    those of callers are shortened."""
    handler = logging.StreamHandler(sys.stderr)
    if not numbers:
        handler.addFilter(without_numbers)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel("ERROR" if level == "error" else "WARNING")
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
