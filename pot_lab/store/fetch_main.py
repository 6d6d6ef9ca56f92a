"""What a fetching process runs: follow strangers' links into custody, under limits of its own, and say how it went.

Several links are followed side by side, so that one that drips keeps no other waiting.

python -m pot_lab.store.fetch_main JOB
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.store.blobs import fetch_file
from pot_lab.store.custody import ARRIVING_FOLDER, Custody, CustodyLimits
from pot_lab.store.link_fetcher import FetchJob, FetchOutcome

_LOOK_EVERY_S = 0.5


def main(arguments: Sequence[str]) -> int:
    """Some fetches; each outcome is a line of JSON on stdout, and the exit code 0 if all blobs are held."""
    job = msgspec.json.decode(arguments[0], type=FetchJob)
    try:
        _confine(job)
        custody = Custody(Path(job.root), CustodyLimits(total_bytes=job.total_bytes))
    except (PotLabError, OSError, MemoryError) as problem:
        fault = _fault_of(problem)
        return _say([_numbered(fault, index) for index in range(len(job.links))])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    fetching = _Fetching(job, custody)
    numbers = range(1, len(job.links))
    threads = [threading.Thread(target=fetching.follow, args=(index,), daemon=True) for index in numbers]
    for thread in threads:
        thread.start()
    fetching.follow(0)
    for thread in threads:
        thread.join()
    return 1 if fetching.failed else 0


class _Fetching:
    """The links of one job, each followed on a thread of its own."""

    def __init__(self, job: FetchJob, custody: Custody) -> None:
        self.job, self.custody, self.failed = job, custody, False
        self._lock = threading.Lock()
        self._asked_bytes = 0

    def follow(self, index: int) -> None:
        """Follow one link, and say how it ended."""
        outcome = FetchOutcome(index=index)
        try:
            self._fetch(self.job.links[index])
        except (PotLabError, OSError, MemoryError) as problem:
            outcome = _numbered(_fault_of(problem), index)
        with self._lock:
            self.failed = _say([outcome]) != 0 or self.failed

    def _fetch(self, link: Link) -> None:
        with self._lock:  # the others' bytes have their room already
            self.custody.make_room(self._asked_bytes + link.size_bytes)
            self._asked_bytes += link.size_bytes
        path = fetch_file(
            link,
            limit_bytes=link.size_bytes,
            timeout_s=self.job.timeout_s,
            cache_dir=self.custody.root / ARRIVING_FOLDER,
            private_links=self.job.private_links,
        )
        self.custody.adopt(path, link.digest, link.size_bytes)


def _end_with(parent: int) -> None:
    """End this process soon after the one that started it, also where that was killed."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _fault_of(problem: PotLabError | OSError | MemoryError) -> FetchOutcome:
    if isinstance(problem, PotLabError):
        return FetchOutcome(code=problem.code, reason=str(problem)[:200])
    return FetchOutcome(code="FetcherFault", reason=f"{type(problem).__name__}: {problem}"[:200])


def _numbered(outcome: FetchOutcome, index: int) -> FetchOutcome:
    return msgspec.structs.replace(outcome, index=index)


def _say(outcomes: Sequence[FetchOutcome]) -> int:
    """Write outcomes; returns 1 if one of them is no success."""
    sys.stdout.buffer.write(b"".join(msgspec.json.encode(each) + b"\n" for each in outcomes))
    sys.stdout.buffer.flush()
    return 1 if any(each.code for each in outcomes) else 0


def _confine(job: FetchJob) -> None:
    """Bound memory, files, descriptors and processor time of this process, for good."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory ends, this process goes first
    except OSError:
        pass  # forbidden in some containers
    largest_bytes = max(16 << 20, *(each.size_bytes for each in job.links))  # the index of custody grows too
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    for kind, value in (
        (resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + job.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, largest_bytes + 4096),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CPU, int(job.timeout_s) + 60),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
