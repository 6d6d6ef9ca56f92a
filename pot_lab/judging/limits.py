"""What a helper process may use. The helper enforces all but the waiting times; its client enforces those."""

from __future__ import annotations

from pot_lab.crypto.canonical import Record


class HelperLimits(Record, frozen=True, kw_only=True):
    """Bounds of one helper process.

    Attributes:
        memory_bytes: address space beyond what the interpreter and its libraries take. Files that are mapped count.
        cpu_s: processor time for one request, in whole seconds; a request that is waited for longer than `wall_s` has
            as much more.
        wall_s: usual time from sending a request to its reply, in seconds.
        start_s: time from starting a helper until it says that it is ready, in seconds.
        file_bytes: the largest file that a helper may write.
        open_files: open descriptors.
        threads: of the arithmetic.
        request_bytes, reply_bytes: the largest frame in each direction.
    """

    memory_bytes: int = 16 << 30
    cpu_s: int = 600
    wall_s: float = 120.0
    start_s: float = 120.0
    file_bytes: int = 8 << 30
    open_files: int = 64
    threads: int = 1
    request_bytes: int = 64 << 20
    reply_bytes: int = 1 << 16
