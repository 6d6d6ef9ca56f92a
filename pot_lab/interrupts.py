"""Ctrl-C where an exception out of a signal handler would be lost, or would end the process.

Python drops exceptions of callbacks such as those of weak references, and C++ of a library may not pass them on. An
interrupt that comes at such a moment is swallowed, or aborts the process.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def _is_main() -> bool:
    """Whether this thread gets the signals: only the main one may set handlers."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def held() -> Iterator[None]:
    """Hold an interrupt that comes within; it comes at the end, also where what is within fails.

    Only where it is short and cannot be left half-way.
    """
    before = signal.getsignal(signal.SIGINT) if _is_main() else None
    if not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[-1])


@contextmanager
def noticed() -> Iterator[Callable[[], None]]:
    """Have no interrupt lost: calling what is given raises KeyboardInterrupt if one came within and did not end it.

    Interrupts act at once within as they do elsewhere. For the moment before something that cannot be taken back.
    """
    before = signal.getsignal(signal.SIGINT) if _is_main() else None
    if not callable(before):
        yield lambda: None
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        before(number, frame)

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
