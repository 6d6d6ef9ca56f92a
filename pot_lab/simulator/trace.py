"""What happened in a run: a digest of everything, and the last lines in words.

The digest covers every noted moment, so two runs of one seed are the same run exactly if their digests are equal. Lines
are put into words only when somebody reads them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

from pot_lab.simulator.virtual_time import EventQueue

_KEPT, _KEPT_MARKED = 3_000, 500

Line = tuple[int, int, str, tuple[object, ...]]


class Trace:
    """The moments of one run.

    Attributes:
        moments: how many there were.
    """

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self._hash = hashlib.sha256()
        self._lines: deque[Line] = deque(maxlen=_KEPT)
        self._marked: deque[Line] = deque(maxlen=_KEPT_MARKED)
        self.moments = 0

    def note(self, host: int, what: str, *details: object) -> None:
        """Something happened at a host (-1: to the world as a whole)."""
        line = (self._queue.now_us, host, what, details)
        self._hash.update(repr(line).encode())
        self._lines.append(line)
        self.moments += 1

    def mark(self, host: int, what: str, *details: object) -> None:
        """The same for what a reader must not miss: faults, changes of view, violations."""
        self.note(host, what, *details)
        self._marked.append(self._lines[-1])

    @property
    def digest(self) -> str:
        """SHA-256 over every moment so far, hex."""
        return self._hash.hexdigest()

    def text(self, last: int = 200) -> str:
        """The faults of the run and its last moments, a line each."""
        recent = list(self._lines)[-last:]
        since_us = recent[0][0] if recent else 0
        marked = [line for line in self._marked if line[0] < since_us]
        parts = ["what befell the run before:", *_words(marked), "its last moments:", *_words(recent)]
        return "\n".join(parts)


def _words(lines: Iterable[Line]) -> list[str]:
    found = []
    for at_us, host, what, details in lines:
        where = "     " if host < 0 else f"at {host:2d}"
        said = " ".join(item.hex()[:12] if isinstance(item, bytes) else str(item) for item in details)
        found.append(f"{at_us / 1e6:12.6f} {where}  {what} {said}")
    return found
