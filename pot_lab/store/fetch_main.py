"""What a fetching process runs: follow one stranger's link into custody, under limits of its own, and say how it went.

python -m pot_lab.store.fetch_main JOB
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pot_lab.errors import PotLabError
from pot_lab.store.blobs import Store
from pot_lab.store.custody import ARRIVING_FOLDER, Custody, CustodyLimits
from pot_lab.store.link_fetcher import FetchJob, FetchOutcome


def main(arguments: Sequence[str]) -> int:
    """One fetch; the outcome is one line of JSON on stdout, and the exit code 0 if the blob is held."""
    job = msgspec.json.decode(arguments[0], type=FetchJob)
    try:
        _confine(job)
        custody = Custody(Path(job.root), CustodyLimits(total_bytes=job.total_bytes))
        custody.make_room(job.link.size_bytes)
        store = Store(Path(job.root), private_links=job.private_links)
        path = store.fetch_file(
            job.link,
            limit_bytes=job.link.size_bytes,
            timeout_s=job.timeout_s,
            cache_dir=custody.root / ARRIVING_FOLDER,
        )
        custody.adopt(path, job.link.digest, job.link.size_bytes)
        outcome = FetchOutcome()
    except PotLabError as problem:
        outcome = FetchOutcome(code=problem.code, reason=str(problem)[:200])
    except (OSError, MemoryError) as problem:
        outcome = FetchOutcome(code="FetcherFault", reason=f"{type(problem).__name__}: {problem}"[:200])
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
    return 1 if outcome.code else 0


def _confine(job: FetchJob) -> None:
    """Bound memory, files, descriptors and processor time of this process, for good."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory ends, this process goes first
    except OSError:
        pass  # forbidden in some containers
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    for kind, value in (
        (resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + job.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, max(job.link.size_bytes, 16 << 20) + 4096),  # the index of custody grows too
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CPU, int(job.timeout_s) + 60),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
