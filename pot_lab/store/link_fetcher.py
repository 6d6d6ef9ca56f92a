"""Follows strangers' links into custody in processes of their own, so that none can take the aggregator down.

A process follows one link, or some small ones side by side, since most of what a small blob costs is the process. A
link leads to a server of somebody's choice, through libraries for TLS, HTTP and file systems. The process that
follows it has caps on bytes, memory and time, no password in its environment, and reaches no private address unless the
network allows that. It is killed when its time is up. Nothing here waits.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from pot_lab.crypto.link import Link
from pot_lab.store.child_process import start_module

FETCHER_MODULE = "pot_lab.store.fetch_main"
MAX_LINKS = 16
"""The most links that one process follows."""
_OUTCOME_LIMIT_BYTES = 1_024
_SPARE_S = 10.0


class FetchJob(msgspec.Struct, frozen=True, kw_only=True):
    """What one process fetches: links, into the custody at `root`, within limits; `memory_bytes` beyond its start."""

    links: tuple[Link, ...]
    root: str
    private_links: bool
    timeout_s: float
    memory_bytes: int
    total_bytes: int


class FetchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the fetch of a process's link number `index` ended: `code` names the rule that it broke, and is "" where the
    blob is held.
    """

    code: str = ""
    reason: str = ""
    index: int = 0


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
    links: dict[int, Link]
    process: subprocess.Popen[bytes]
    deadline_s: float
    said: bytes = b""
    room_bytes: int
    """What it may say in all."""
    alone: bool
    """Whether it follows one link only."""


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

    def begin(self, *links: Link) -> bool:
        """Follow links in one process, at most MAX_LINKS; `poll` tells how each ended. False when all processes are at
        work, or one follows one of these links already.
        """
        if self.free < 1 or any(map(self.follows, links)):
            return False
        links = links[:MAX_LINKS]
        timeout_s = self._limits.base_s + sum(each.size_bytes for each in links) / self._limits.least_bytes_per_s
        job = FetchJob(
            links=links,
            root=str(self._root),
            private_links=self._private_links,
            timeout_s=timeout_s,
            memory_bytes=self._limits.memory_bytes,
            # What the others still bring is not there yet, and has its room already.
            total_bytes=self._limits.total_bytes
            - sum(link.size_bytes for each in self._running for link in each.links.values()),
        )
        try:
            process = self._start(job)
        except OSError as error:
            fault = FetchOutcome(code="FetcherFault", reason=str(error)[:200])
            self._ended += [FetchedLink(each, fault) for each in links]
            return True
        running = _Running(
            links=dict(enumerate(links)),
            process=process,
            deadline_s=self._clock_s() + timeout_s + _SPARE_S,
            room_bytes=_OUTCOME_LIMIT_BYTES * len(links),
            alone=len(links) == 1,
        )
        if process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)
        self._running.append(running)
        return True

    def follows(self, link: Link) -> bool:
        """Whether a process follows this link now."""
        return any(link in each.links.values() for each in self._running)

    def poll(self) -> list[FetchedLink]:
        """Fetches that ended since the last call; kills those whose time is up. Does not wait for any."""
        for each in list(self._running):
            code = each.process.poll()
            _read(each)
            if code is not None:
                died = FetchOutcome(code="FetcherDied", reason=f"exit status {code}")
                outcomes = _outcomes_of(each)
                if any(outcome.code for outcome in outcomes.values()) is bool(code):
                    self._report(each, outcomes)
                self._finish(each, died)
            elif self._clock_s() >= each.deadline_s:
                each.process.kill()
                self._report(each, _outcomes_of(each))
                self._finish(each, FetchOutcome(code="TooSlow", reason="the fetch did not end in time"))
            elif not each.alone:  # a link that drips keeps no other from being told
                self._report(each, _outcomes_of(each))
        ended, self._ended = self._ended, []
        return ended

    @property
    def running(self) -> int:
        """How many processes are at work."""
        return len(self._running)

    def close(self) -> None:
        """Kill what runs."""
        for each in list(self._running):
            each.process.kill()
            self._finish(each, FetchOutcome(code="FetcherDied", reason="the aggregator is stopping"))

    def _report(self, each: _Running, outcomes: dict[int, FetchOutcome]) -> None:
        for index in each.links.keys() & outcomes.keys():
            self._ended.append(FetchedLink(each.links.pop(index), outcomes[index]))

    def _finish(self, each: _Running, outcome: FetchOutcome) -> None:
        """Its process has ended, or was killed: what it said nothing of ended like this."""
        self._running.remove(each)
        self._ended += [FetchedLink(link, outcome) for link in each.links.values()]
        each.process.wait()
        if each.process.stdout is not None:
            each.process.stdout.close()


def start_fetcher(job: FetchJob) -> subprocess.Popen[bytes]:
    """Start a fetching process. Raises OSError."""
    arguments = [msgspec.json.encode(job).decode()]
    return start_module(FETCHER_MODULE, arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def _read(each: _Running) -> None:
    """Take what is in an ended or running process's pipe, within its bound."""
    if each.process.stdout is not None and len(each.said) < each.room_bytes:
        with contextlib.suppress(OSError):
            each.said += os.read(each.process.stdout.fileno(), each.room_bytes - len(each.said))


def _outcomes_of(each: _Running) -> dict[int, FetchOutcome]:
    """The whole lines that a process said, by the number of their link; nothing where a line is no outcome."""
    outcomes: dict[int, FetchOutcome] = {}
    for line in each.said.split(b"\n")[:-1]:
        try:
            outcome = msgspec.json.decode(line, type=FetchOutcome)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return {}
        outcomes[outcome.index] = outcome
    return outcomes
