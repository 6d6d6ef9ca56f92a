"""Commands that begin under other signals or limits than those of the suite's process.

Not by `preexec_fn`: it runs Python in a fork of a process with many threads, which can wait for a lock for ever, and
meanwhile holds open what the runner of the tests waits for.
"""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_BEGIN = "import os, resource, signal, sys; {first}; os.execv(sys.argv[1], sys.argv[1:])"


def heeding_interrupts(command: Sequence[str]) -> list[str]:
    """With SIGINT's usual meaning: a suite in the background ignores it, and its children would inherit that."""
    return _after("signal.signal(signal.SIGINT, signal.SIG_DFL)", command)


def writing_at_most(file_bytes: int, command: Sequence[str]) -> list[str]:
    """With files that cannot grow beyond this, as if the disk were full."""
    return _after(f"resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, {file_bytes}))", command)


def _after(first: str, command: Sequence[str]) -> list[str]:
    return [sys.executable, "-c", _BEGIN.format(first=first), *command]


class Gone:
    """Something with a callback, out of which no exception comes."""


def interrupt_in_a_callback() -> None:
    """Press Ctrl-C at a moment that drops exceptions."""
    one = Gone()
    reference = weakref.ref(one, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del one
    assert reference() is None


@contextmanager
def heeding() -> Iterator[None]:
    """SIGINT's usual meaning for this process, within."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
