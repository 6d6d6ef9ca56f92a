"""One line an event, key=value, through stdlib logging to stderr: readable by people, searchable by machines."""

from __future__ import annotations

import logging
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
        self._logger.error(key_values(event, {**self._always, **fields}), exc_info=True)

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, key_values(event, {**self._always, **fields}))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower()} {record.getMessage()}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def log_to_stderr(level: str = "info") -> None:
    """Send every log line of this process to stderr; for the main of a process, not for libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:8].hex()
    text = str(value)
    return '"' + text.replace('"', "'").replace("\n", " ") + '"' if set(text) & _QUOTED or not text else text
