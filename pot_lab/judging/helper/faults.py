"""Which refusals are really this machine's fault: a reader that ran out of memory calls the file broken."""

from __future__ import annotations

_SIGNS = ("memory", "os error", "i/o error", "too many open files")


def is_fault(problem: BaseException) -> bool:
    """Whether a refusal was caused by memory or the operating system, not by the bytes that were read.

    safetensors reports a mapping that failed, and torch an allocation that failed, by errors of the same classes as
    those for broken files; readers turn both into refusals. Their causes tell.
    """
    cause: BaseException | None = problem.__cause__ or problem.__context__
    while cause is not None:
        if isinstance(cause, MemoryError | OSError):
            return True
        if any(sign in str(cause).lower() for sign in _SIGNS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
