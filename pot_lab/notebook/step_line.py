"""One line that says what a call is doing now: updated in place in a notebook and on a terminal, silent elsewhere.

A call that takes seconds (export, encryption, upload, a payment's confirmation) would otherwise look as if it hung.
"""

from __future__ import annotations

import contextlib
import html
import sys
import time
from typing import Any, TextIO


class StepLine:
    """A line of progress.

    Args:
        what: what the call does, before the step.
        terminal: where the line is shown outside of a notebook, if that is a terminal.
    """

    def __init__(self, what: str, terminal: TextIO | None = None) -> None:
        self._what = what
        self._terminal = sys.stderr if terminal is None else terminal
        self._began_s = time.monotonic()
        self._handle: Any = None
        self._width = 0
        self.last = ""

    def __call__(self, step: str) -> None:
        """Show what goes on now; the same step again changes nothing."""
        if step != self.last:
            self.last = step
            self._show(f"{self._what}: {step}")

    def close(self, step: str) -> None:
        """Show how it ended, with the seconds that it took; the line stays."""
        self(f"{step} ({time.monotonic() - self._began_s:.1f} s)")
        if self._width:
            self._write("\n")
            self._width = 0

    def _show(self, text: str) -> None:
        if _in_kernel():
            from IPython.display import display

            bundle = {"text/plain": text, "text/html": f"<span role='status'>{html.escape(text)}</span>"}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)
        elif self._is_terminal():
            self._write(f"\r{text.ljust(self._width)}")
            self._width = len(text)

    def _is_terminal(self) -> bool:
        with contextlib.suppress(ValueError, AttributeError):  # a closed stream, or none
            return self._terminal.isatty()
        return False

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._terminal.write(text)
            self._terminal.flush()


def _in_kernel() -> bool:
    """Whether this runs in a notebook's kernel; IPython is not loaded to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and getattr(shell, "kernel", None) is not None
