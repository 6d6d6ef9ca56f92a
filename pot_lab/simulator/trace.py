"""What happened in a run: a digest of everything, and the last lines in words.

The digest covers every noted moment, so two runs of one seed are the same run exactly if their digests are equal. Lines
are put into words only when somebody reads them:

    0.684750  3        executed batch 5: 1 requests, state cd950848081c
    0.689263  3 > 0 1  Checkpoint of batch 5, state cd950848081c
    0.700000  *        partition [0, 2] from [1, 3] for 1.4 s

are seconds since the start, the host or link (`*`: the world), and what happened there. What several receivers get
within a short time stands in one line, at the time of the first.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pot_lab.consensus.messages import (
    Checkpoint,
    Commit,
    Decisions,
    FetchBatches,
    FetchBodies,
    FetchChunk,
    FetchDecisions,
    FetchViewChanges,
    Forward,
    Message,
    NewView,
    Offer,
    Prepare,
    PrePrepare,
    Requests,
    Stable,
    Status,
    ViewChange,
    request_digest,
)
from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US, EventQueue

_KEPT, _KEPT_MARKED = 3_000, 500
_SHOWN, _SHOWN_OF_BATCH = 120, 60
_FOLDED_US = 20 * MILLISECOND_US
_NAMED = 3
_WORLD = "*"

Line = tuple[int, str, str, tuple[object, ...]]


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

    def note(self, host: int | None, what: str, *details: object) -> None:
        """Something happened at a host (None: to the world as a whole)."""
        self._add(_WORLD if host is None else str(host), what, details)

    def mark(self, what: str, *details: object) -> None:
        """The same to the world, for what a reader must not miss: faults, changes of view, violations."""
        self._add(_WORLD, what, details)
        self._marked.append(self._lines[-1])

    def frame(self, sender: int, receiver: int, message: Message) -> None:
        """A message has arrived."""
        line = (self._queue.now_us, f"{sender} > {receiver}", type(message).__name__, (message,))
        view, sequence = getattr(message, "view", 0), getattr(message, "sequence", 0)
        self._hash.update(b"%d/%d/%d/%d/%d/%b;" % (line[0], sender, receiver, view, sequence, line[2].encode()))
        self._lines.append(line)
        self.moments += 1

    def _add(self, where: str, what: str, details: tuple[object, ...]) -> None:
        line = (self._queue.now_us, where, what, details)
        self._hash.update(repr(line).encode())
        self._lines.append(line)
        self.moments += 1

    @property
    def digest(self) -> str:
        """SHA-256 over every moment so far, hex."""
        return self._hash.hexdigest()

    def text(self, sequence: int | None = None) -> str:
        """The run's faults, what was said about one batch, if one is named, and the last moments, a line each."""
        lines = _folded(self._lines)
        recent = lines[-_SHOWN:]
        since_us = recent[0][0] if recent else 0
        parts = ["what befell the run before:", *_words(line for line in self._marked if line[0] < since_us)]
        if sequence is not None:
            about = [line for line in lines if line[0] < since_us and _is_about(line, sequence)]
            parts += [f"what was said of batch {sequence} before:", *_words(about[-_SHOWN_OF_BATCH:])]
        return "\n".join([*parts, "its last moments:", *_words(recent)])


def _folded(lines: Iterable[Line]) -> list[Line]:
    """The same lines with one for each message that several receivers got at nearly the same time."""
    found: list[Line] = []
    latest: dict[tuple[str, object], int] = {}
    for line in lines:
        at_us, where, what, details = line
        sender, _, receiver = where.partition(" > ")
        if receiver:
            key = (sender, details[0])
            place = latest.get(key)
            if place is not None and at_us - found[place][0] <= _FOLDED_US:
                found[place] = (found[place][0], f"{found[place][1]} {receiver}", what, details)
                continue
            latest[key] = len(found)
        found.append(line)
    return found


def _is_about(line: Line, sequence: int) -> bool:
    return any(getattr(detail, "sequence", None) == sequence for detail in line[3])


def _words(lines: Iterable[Line]) -> list[str]:
    found = []
    for at_us, where, what, details in lines:
        said = [describe(item) if isinstance(item, Message) else _word(item) for item in details]
        found.append(f"{at_us / SECOND_US:12.6f}  {where:9}  {' '.join([what, *said])}")
    return found


def _word(item: object) -> str:
    return item.hex()[:12] if isinstance(item, bytes) else str(item)


def describe(message: Message) -> str:
    """What a message says, without its name."""
    says: Callable[[Any], str] = _SAYS.get(type(message), lambda m: "")
    return says(message)


def _span(numbers: Iterable[int]) -> str:
    wanted = list(numbers)
    return "none" if not wanted else str(wanted[0]) if len(wanted) == 1 else f"{wanted[0]}..{wanted[-1]}"


def _requests(digests: Iterable[bytes]) -> str:
    names = [_word(digest) for digest in digests]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return " ".join([*names[:_NAMED], *more]) or "no requests"


def _vote(vote: Prepare | Commit) -> str:
    by = f"view {vote.view} batch {vote.sequence} {_word(vote.digest)}"
    return f"{by}, by {vote.replica} at {vote.executed}"


_SAYS: dict[type, Callable[[Any], str]] = {
    PrePrepare: lambda m: f"view {m.view} batch {m.sequence} at ..{m.time_ms % 1_000_000} ms: {_requests(m.digests)}",
    Prepare: _vote,
    Commit: _vote,
    Checkpoint: lambda m: (
        f"of batch {m.sequence}, state {_word(m.state)}{', with a snapshot' if any(m.snapshot) else ''}"
    ),
    Stable: lambda m: f"checkpoint {m.proof.sequence}",
    Status: lambda m: (
        f"view {m.view}{'' if m.active else ' (waiting)'}, executed {m.executed}, stable {m.stable}"
        f"{', what of you?' if m.ask else ''}"
    ),
    Forward: lambda m: _requests(map(request_digest, m.requests)),
    FetchBodies: lambda m: _requests(m.digests),
    Requests: lambda m: _requests(map(request_digest, m.bodies)),
    FetchDecisions: lambda m: f"{m.first}..{m.last}",
    Decisions: lambda m: _span(each.sequence for each in m.batches),
    FetchBatches: lambda m: _span(each.sequence for each in m.batches),
    ViewChange: lambda m: (
        f"by {m.replica} to view {m.view}, stable {0 if m.stable is None else m.stable.sequence}, "
        f"prepared {_span(each.proposal.sequence for each in m.prepared)}"
    ),
    NewView: lambda m: (
        f"{m.view} on the word of {sorted(each.replica for each in m.votes)}, "
        f"proposes {_span(each.sequence for each in m.proposals)}"
    ),
    FetchViewChanges: lambda m: f"to view {m.view} of {list(m.replicas)}",
    Offer: lambda m: f"of the snapshot at {m.proof.sequence}, {m.size_bytes} bytes in {len(m.chunks)} chunks",
    FetchChunk: lambda m: f"{m.index} of snapshot {m.sequence}",
}
