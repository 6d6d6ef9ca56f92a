"""Refusals as short cards in a notebook: what was refused, in which line of the cell, and what to do.

`%xmode Verbose` or `%tb` show the whole traceback again. Notebooks that run as jobs keep theirs: nothing here is in
force without `pot_lab.connect()` or `%load_ext pot_lab`.
"""

from __future__ import annotations

import inspect
import linecache
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"
_FULL = ("Verbose", "Docs")


def show_errors_short(shell: InteractiveShell | None = None) -> None:
    """From now on a PotLabError of a cell is shown as a card; without IPython nothing happens.

    An own handler of the user's stays.
    """
    if shell is None:
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is not None and not shell.custom_exceptions:
        shell.set_custom_exc((PotLabError,), _show)


def card_lines(error: PotLabError, line: str = "") -> list[str]:
    """The card in lines of text.

    Args:
        error: the refusal.
        line: the line of the user's that led to it.
    """
    lines = [f"{_RED}{_BOLD}{error.code}{_PLAIN}: {error.message}"]
    if line:
        lines.insert(0, line)
    for name in ("seen", "wanted"):
        if getattr(error, name) is not None:
            lines.append(f"  {name:<7} {error.shown(name)}")
    if todo := what_to_do(type(error)):
        lines.append(f"  {_BOLD}to do{_PLAIN}   {todo}")
    return lines


def what_to_do(kind: type[PotLabError]) -> str:
    """The paragraph of an error's docstring that begins `What to do:`, in one line; empty without one."""
    for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
        if paragraph.startswith("What to do:"):
            return " ".join(paragraph.removeprefix("What to do:").split())
    return ""


def users_line(trace: TracebackType | None) -> str:
    """Where a traceback enters from code that is not this package's: file or cell, number and text of the line."""
    found = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(("pot_lab", "IPython", "ipykernel")):
            text = linecache.getline(code.co_filename, trace.tb_lineno).strip()
            if text:
                found = f"line {trace.tb_lineno}: {text}"
        trace = trace.tb_next
    return found


def _show(
    shell: InteractiveShell, kind: type[PotLabError], error: PotLabError, trace: Any, tb_offset: int | None = None
) -> list[str]:
    if getattr(shell.InteractiveTB, "mode", "") in _FULL:
        lines = list(shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset))
    else:
        lines = card_lines(error, users_line(trace))
    shell._showtraceback(kind, error, lines)
    return lines
