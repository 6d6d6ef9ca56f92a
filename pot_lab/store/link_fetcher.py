"""Follows strangers' links into custody, each in a process of its own, so that none can take the aggregator down.

A link leads to a server of somebody's choice, through libraries for TLS, HTTP and file systems. The process that
follows it has caps on bytes, memory and time, no password in its environment, and reaches no private address unless the
network allows that. It is killed when its time is up. Nothing here waits.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from pot_lab.crypto.link import Link

FETCHER_MODULE = "pot_lab.store.fetch_main"
_OUTCOME_LIMIT_BYTES = 4_096
_SPARE_S = 10.0
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
_KEPT_PREFIX = "COVERAGE_"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class FetchJob(msgspec.Struct, frozen=True, kw_only=True):
    """What one process fetches: a link, into the custody at `root`, within limits; `memory_bytes` beyond its start."""

    link: Link
    root: str
    private_links: bool
    timeout_s: float
    memory_bytes: int
    total_bytes: int


class FetchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a fetch ended: `code` names the rule that it broke, and is "" where the blob is held."""

    code: str = ""
    reason: str = ""


class FetchedLink(NamedTuple):
    """A fetch that ended, under the link that it followed."""

    link: Link
    outcome: FetchOutcome


class FetchLimits(NamedTuple):
    """Bounds of fetching.

    `at_once`: processes side by side. `base_s` and `least_bytes_per_s`: a blob's time is the base and its length at
    this rate. `memory_bytes`: of one process, beyond its start. `total_bytes`: of the whole custody.
    """

    at_once: int = 4
    base_s: float = 60.0
    least_bytes_per_s: int = 1_000_000
    memory_bytes: int = 1 << 30
    total_bytes: int = 64 << 30


@dataclass(kw_only=True)
class _Running:
    link: Link
    process: subprocess.Popen[bytes]
    deadline_s: float


Starter = Callable[[FetchJob], "subprocess.Popen[bytes]"]
"""Starts a fetching process whose stdout is a pipe; raises OSError where it cannot."""


class LinkFetcher:
    """Some fetching processes side by side. For one thread.

    Args:
        root: the folder of the custody that blobs go to; they must be expected there.
        private_links: whether links may lead to this host or into a private network.
        limits: bounds of fetching.
        clock_s: seconds that only grow.
        start: starts a process.
    """

    def __init__(
        self,
        root: Path,
        *,
        private_links: bool,
        limits: FetchLimits | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        start: Starter | None = None,
    ) -> None:
        self._root, self._private_links = root.resolve(), private_links
        self._limits = limits or FetchLimits()
        self._clock_s, self._start = clock_s, start or start_fetcher
        self._running: list[_Running] = []
        self._ended: list[FetchedLink] = []

    @property
    def free(self) -> int:
        """How many more fetches may begin now."""
        return self._limits.at_once - len(self._running)

    def begin(self, link: Link) -> bool:
        """Follow a link; `poll` tells how it ended. False when all processes are at work, or one follows it already."""
        if self.free < 1 or any(each.link == link for each in self._running):
            return False
        timeout_s = self._limits.base_s + link.size_bytes / self._limits.least_bytes_per_s
        job = FetchJob(
            link=link,
            root=str(self._root),
            private_links=self._private_links,
            timeout_s=timeout_s,
            memory_bytes=self._limits.memory_bytes,
            # What the others still bring is not there yet, and has its room already.
            total_bytes=self._limits.total_bytes - sum(each.link.size_bytes for each in self._running),
        )
        try:
            process = self._start(job)
        except OSError as error:
            self._ended.append(FetchedLink(link, FetchOutcome(code="FetcherFault", reason=str(error)[:200])))
            return True
        deadline_s = self._clock_s() + timeout_s + _SPARE_S
        self._running.append(_Running(link=link, process=process, deadline_s=deadline_s))
        return True

    def poll(self) -> list[FetchedLink]:
        """Fetches that ended since the last call; kills those whose time is up. Does not wait for any."""
        for each in list(self._running):
            if each.process.poll() is not None:
                self._finish(each, _outcome_of(each.process))
            elif self._clock_s() >= each.deadline_s:
                each.process.kill()
                self._finish(each, FetchOutcome(code="TooSlow", reason="the fetch did not end in time"))
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Kill what runs."""
        for each in list(self._running):
            each.process.kill()
            self._finish(each, FetchOutcome(code="FetcherDied", reason="the aggregator is stopping"))

    def _finish(self, each: _Running, outcome: FetchOutcome) -> None:
        self._running.remove(each)
        self._ended.append(FetchedLink(each.link, outcome))
        each.process.wait()
        if each.process.stdout is not None:
            each.process.stdout.close()


def start_fetcher(job: FetchJob) -> subprocess.Popen[bytes]:
    """Start a fetching process. Raises OSError."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.lower() in _PROXIES or name.startswith(_KEPT_PREFIX)
    }
    home = str(Path(__file__).parents[2])  # where the package lies, also when it is not installed
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-B", "-m", FETCHER_MODULE, msgspec.json.encode(job).decode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd="/",
        env=kept,
        start_new_session=True,
    )


def _outcome_of(process: subprocess.Popen[bytes]) -> FetchOutcome:
    """What an ended process said; a bounded read of what is in the pipe."""
    said = b""
    if process.stdout is not None:
        with contextlib.suppress(OSError):
            os.set_blocking(process.stdout.fileno(), False)
            said = os.read(process.stdout.fileno(), _OUTCOME_LIMIT_BYTES)
    try:
        outcome = msgspec.json.decode(said, type=FetchOutcome)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return FetchOutcome(code="FetcherDied", reason=f"exit status {process.returncode}")
    if bool(outcome.code) is not bool(process.returncode):
        return FetchOutcome(
            code="FetcherDied", reason=f"exit status {process.returncode}, and it said {outcome.code!r}"
        )
    return outcome
