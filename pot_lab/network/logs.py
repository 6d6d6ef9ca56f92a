"""One line an event through stdlib logging to stderr: key=value for people, or a JSON object for machines."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any

_QUOTED = set(' "=\n\t')


def key_values(event: str, fields: dict[str, Any]) -> str:
    """`event key=value ...`, quoting what needs it; bytes as the start of their hex."""
    return " ".join([event, *(f"{key}={_shown(value)}" for key, value in fields.items())])


class EventLog:
    """Logs named events with fields that never change (which aggregator) and fields of the moment."""

    def __init__(self, name: str, **always: Any) -> None:
        self._logger = logging.getLogger(name)
        self._always = always

    def info(self, event: str, **fields: Any) -> None:
        """Something worth a line."""
        self._log(logging.INFO, event, fields)

    def debug(self, event: str, **fields: Any) -> None:
        """Something worth a line when looking for a fault."""
        self._log(logging.DEBUG, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something an operator should look at."""
        self._log(logging.WARNING, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """A programming error that did not stop the process, with its traceback."""
        told = {**self._always, **fields}
        self._logger.error(key_values(event, told), exc_info=True, extra={"told": (event, told)})

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            told = {**self._always, **fields}
            self._logger.log(level, key_values(event, told), extra={"told": (event, told)})


def _stamp(record: logging.LogRecord) -> str:
    """The record's time as RFC 3339 has it, in milliseconds."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_stamp(record)} {record.levelname.lower()} {record.getMessage()}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _JsonFormatter(logging.Formatter):
    """An object a line: `at`, `level`, `logger`, and `event` with its fields, or `message`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        event, fields = getattr(record, "told", ("", {}))
        if event:
            line["event"] = event
            line |= {name if name not in line else f"{name}_": _plain(value) for name, value in fields.items()}
        else:
            text = record.getMessage()
            named = _EVENT.match(text)
            if named is not None:
                line["event"] = named[1]
            line["message"] = text
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


_EVENT = re.compile(r"event=(\w+)")
LOG_FORMATS = ("text", "json")


def log_to_stderr(level: str = "info", form: str = "text") -> None:
    """Send every log line of this process to stderr; for the main of a process, not for libraries.

    Args:
        level: the least severe messages that are logged.
        form: one of `LOG_FORMATS`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:8].hex()
    text = str(value)
    return '"' + text.replace('"', "'").replace("\n", " ") + '"' if set(text) & _QUOTED or not text else text


def _plain(value: Any) -> Any:
    """A field's value as JSON has it; bytes as in a line for people."""
    return value if value is None or isinstance(value, bool | int | float | str) else _shown(value)
