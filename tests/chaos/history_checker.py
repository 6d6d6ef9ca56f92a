"""What must be true of a run, judged from the outside: from what clients wrote down and what aggregators executed.

`check` holds the clients' logs against the aggregators' histories. It knows nothing of replicas, views or faults. Its
clock is one monotonic clock that all clients of a run share (nanoseconds); an invocation is noted before anything is
sent and an acknowledgement after f+1 equal replies arrived, so every interval is at least as long as the real one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pot_lab.agreement.application import Application, Batch


class BadHistory(AssertionError):
    """A promise was broken.

    Attributes:
        rule: which one.
    """

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class Operation(NamedTuple):
    """A request that a client sent, and what f+1 aggregators replied; not acknowledged while `acknowledged_ns` is 0."""

    client: str
    request: bytes
    invoked_ns: int
    acknowledged_ns: int = 0
    sequence: int = 0
    time_ms: int = 0
    reply: bytes = b""


class Read(NamedTuple):
    """A query that f+1 aggregators answered alike: the state after batch `height`."""

    client: str
    invoked_ns: int
    answered_ns: int
    height: int


class Executed(NamedTuple):
    """A batch that an aggregator executed: the requests that it ran, in their order."""

    sequence: int
    time_ms: int
    requests: tuple[bytes, ...]


class Verdict(NamedTuple):
    """How much was checked."""

    operations: int
    acknowledged: int
    reads: int
    batches: int
    executed: int


def check(
    operations: Sequence[Operation],
    reads: Sequence[Read],
    histories: Mapping[int, Sequence[Executed]],
    *,
    application: Application | None = None,
    others: Iterable[bytes] | None = (),
    may_have_gaps: Iterable[int] = (),
    must_be_whole: Iterable[int] | None = None,
) -> Verdict:
    """Raise BadHistory unless everything that was promised was kept.

    Args:
        operations, reads: what all clients wrote down.
        histories: what each aggregator executed, by index.
        application: a fresh one, to execute the one history again: every acknowledged reply must be its reply.
        others: requests that somebody without a log sent (duties, a flood); None: anybody may have sent anything.
        may_have_gaps: aggregators that may have stepped over batches with a snapshot.
        must_be_whole: aggregators that must reach the end of the history; all of them if not given.
    """
    merged = _one_order(histories, frozenset(may_have_gaps))
    wanted = set(histories) if must_be_whole is None else set(must_be_whole)
    for index in sorted(wanted):
        height = histories[index][-1].sequence if histories[index] else 0
        if height != len(merged):
            raise BadHistory("behind", f"aggregator {index} ends at batch {height} of {len(merged)}")
    places = _places(merged)
    _nothing_invented(operations, places, others)
    _nothing_lost(operations, merged, places)
    _real_time(operations, places)
    _reads(operations, reads, merged, places)
    if application is not None:
        _replies(operations, merged, application)
    acknowledged = sum(1 for each in operations if each.acknowledged_ns)
    return Verdict(len(operations), acknowledged, len(reads), len(merged), len(places))


def _one_order(histories: Mapping[int, Sequence[Executed]], may_have_gaps: frozenset[int]) -> list[Executed]:
    """All histories in one, batch by batch from 1; they must be prefixes of it."""
    found: dict[int, tuple[int, Executed]] = {}
    for index, rows in sorted(histories.items()):
        before = 0
        for row in rows:
            if row.sequence <= before:
                raise BadHistory("order", f"aggregator {index} has batch {row.sequence} after batch {before}")
            if row.sequence != before + 1 and index not in may_have_gaps:
                raise BadHistory("gap", f"aggregator {index} has no batch {before + 1}, but batch {row.sequence}")
            before = row.sequence
            first, known = found.setdefault(row.sequence, (index, row))
            if known != row:
                parts = [name for name in ("time_ms", "requests") if getattr(known, name) != getattr(row, name)]
                raise BadHistory(
                    "order", f"aggregators {first} and {index} differ at batch {row.sequence} in {', '.join(parts)}"
                )
    merged = [found[sequence][1] for sequence in sorted(found)]
    for wanted, row in enumerate(merged, 1):
        if row.sequence != wanted:
            raise BadHistory("gap", f"nobody has batch {wanted}, but there is a batch {row.sequence}")
    for earlier, later in pairwise(merged):
        if later.time_ms < earlier.time_ms:
            raise BadHistory("time", f"batch {later.sequence} is {earlier.time_ms - later.time_ms} ms before its last")
    return merged


def _places(merged: Sequence[Executed]) -> dict[bytes, int]:
    """Where each request ran, once."""
    places: dict[bytes, int] = {}
    for row in merged:
        for request in row.requests:
            earlier = places.setdefault(request, row.sequence)
            if earlier != row.sequence or row.requests.count(request) > 1:
                raise BadHistory("twice", f"{_short(request)} ran in batch {earlier} and in batch {row.sequence}")
    return places


def _nothing_invented(
    operations: Sequence[Operation], places: Mapping[bytes, int], others: Iterable[bytes] | None
) -> None:
    if others is None:
        return
    known = {each.request for each in operations} | set(others)
    for request, sequence in places.items():
        if request not in known:
            raise BadHistory("invented", f"batch {sequence} holds {_short(request)}, which nobody sent")


def _nothing_lost(operations: Sequence[Operation], merged: Sequence[Executed], places: Mapping[bytes, int]) -> None:
    for each in operations:
        if not each.acknowledged_ns:
            continue
        place = places.get(each.request)
        if place is None:
            raise BadHistory("lost", f"{each.client} was told of batch {each.sequence} for {_short(each.request)}")
        if place != each.sequence or merged[place - 1].time_ms != each.time_ms:
            raise BadHistory(
                "moved",
                f"{each.client} was told of batch {each.sequence} at {each.time_ms} for {_short(each.request)}, "
                f"which ran in batch {place} at {merged[place - 1].time_ms}",
            )


def _real_time(operations: Sequence[Operation], places: Mapping[bytes, int]) -> None:
    """What is invoked after another's acknowledgement runs in a later batch, whoever asked and whatever it was."""
    ends = sorted((each.acknowledged_ns, each.sequence) for each in operations if each.acknowledged_ns)
    highest: list[int] = []
    for _, sequence in ends:
        highest.append(max(sequence, highest[-1] if highest else 0))
    for each in operations:
        place = places.get(each.request)
        before = bisect_left(ends, (each.invoked_ns, 0))
        if place is not None and before and place <= highest[before - 1]:
            raise BadHistory(
                "real time",
                f"{_short(each.request)} of {each.client} ran in batch {place}, but was invoked after "
                f"something in batch {highest[before - 1]} was acknowledged",
            )


def _reads(
    operations: Sequence[Operation], reads: Sequence[Read], merged: Sequence[Executed], places: Mapping[bytes, int]
) -> None:
    """A client's reads never go back, neither behind its earlier reads nor behind what it was told, nor ahead of it."""
    invoked: dict[bytes, int] = {}
    for each in operations:  # several clients may have sent the same bytes
        invoked[each.request] = min(each.invoked_ns, invoked.get(each.request, each.invoked_ns))
    earliest_ns, born_ns = 0, [0]
    for row in merged:
        earliest_ns = max([earliest_ns, *(invoked.get(request, 0) for request in row.requests)])
        born_ns.append(earliest_ns)
    for client in {each.client for each in reads}:
        told = [(each.acknowledged_ns, each.sequence) for each in operations if each.client == client]
        told += [(each.answered_ns, each.height) for each in reads if each.client == client]
        told = sorted(each for each in told if each[0])
        highest: list[int] = []
        for _, height in told:
            highest.append(max(height, highest[-1] if highest else 0))
        for each in reads:
            if each.client != client:
                continue
            before = bisect_left(told, (each.invoked_ns, 0))
            if before and each.height < highest[before - 1]:
                raise BadHistory(
                    "read", f"{client} reads the state after batch {each.height}, knowing of {highest[before - 1]}"
                )
            if each.height > len(merged):
                raise BadHistory("read", f"{client} reads the state after batch {each.height} of {len(merged)}")
            if born_ns[each.height] > each.answered_ns:
                raise BadHistory("read", f"{client} reads the state after batch {each.height} before its requests")


def _replies(operations: Sequence[Operation], merged: Sequence[Executed], application: Application) -> None:
    told = {each.request: each for each in operations if each.acknowledged_ns}
    for row in merged:
        execution = application.execute(Batch(row.sequence, row.time_ms, row.requests))
        for request, reply in zip(row.requests, execution.replies, strict=True):
            each = told.get(request)
            if each is not None and each.reply != reply:
                raise BadHistory(
                    "reply", f"{each.client} was told {each.reply!r} for {_short(request)}, which replies {reply!r}"
                )


def _short(request: bytes) -> str:
    return f"request {request[-12:].hex()}"


# Clients' logs: one line of JSON for each thing that happened, written when it happens.


class ClientLog:
    """What one client did and was told, on disk: the run may be read even if the client did not survive it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def invoked(self, request: bytes, at_ns: int) -> None:
        self._write({"invoked": request.hex(), "at": at_ns})

    def acknowledged(self, request: bytes, at_ns: int, sequence: int, time_ms: int, reply: bytes) -> None:
        self._write(
            {"acknowledged": request.hex(), "at": at_ns, "sequence": sequence, "time": time_ms, "reply": reply.hex()}
        )

    def read(self, invoked_ns: int, answered_ns: int, height: int) -> None:
        self._write({"read": height, "invoked_at": invoked_ns, "at": answered_ns})

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")


def read_log(path: Path) -> tuple[list[Operation], list[Read]]:
    """A client's log; its name is the file's. A torn last line is left out."""
    operations: dict[bytes, Operation] = {}
    reads: list[Read] = []
    for line in _lines(path):
        if "invoked" in line:
            request = bytes.fromhex(line["invoked"])
            operations.setdefault(request, Operation(path.stem, request, line["at"]))
        elif "acknowledged" in line:
            request = bytes.fromhex(line["acknowledged"])
            operations[request] = operations[request]._replace(
                acknowledged_ns=line["at"],
                sequence=line["sequence"],
                time_ms=line["time"],
                reply=bytes.fromhex(line["reply"]),
            )
        else:
            reads.append(Read(path.stem, line["invoked_at"], line["at"], line["read"]))
    return list(operations.values()), reads


def _lines(path: Path) -> Iterator[dict[str, object | int | str]]:
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
