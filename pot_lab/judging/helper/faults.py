"""Which refusals are really this machine's fault: a reader that ran out of memory calls the file broken."""

from __future__ import annotations

_OUT_OF_MEMORY = ("[enforce fail at alloc_cpu", "DefaultCPUAllocator: ")
"""How torch begins when an allocation failed; it raises the class of any other error."""


def is_fault(problem: BaseException) -> bool:
    """Whether a refusal was caused by memory or the operating system, not by the bytes that were read.

    Readers turn whatever a library raises into refusals, so the causes tell, by their class. Of a text only the
    beginning counts, which is the library's own: what follows may name a stranger's tensors.
    """
    cause: BaseException | None = problem.__cause__ or problem.__context__
    while cause is not None:
        if isinstance(cause, MemoryError | OSError):
            return True
        if type(cause) is RuntimeError and str(cause).startswith(_OUT_OF_MEMORY):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
