"""The requests that wait for their place: one queue an account, served in turn, bounded in count and bytes.

A batch takes what has queued when a slot is free; it never waits for more. Accounts take turns, each in the order of
its own nonces, so a flood by one account delays another's request by at most one of its own a batch. A request stays
here until it is executed, because the next primary may have to propose it again.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator

from pot_lab.agreement.application import RequestId
from pot_lab.errors import PotLabError


class QueueFull(PotLabError):
    """A replica holds as many waiting requests as it may, in all or for one account; the client tries again later.

    What to do: wait a moment and submit again; clients do so by themselves.
    """


class Pending:
    """A request that was admitted and is not executed yet.

    Attributes:
        digest: 32 bytes, its `request_digest`.
        body: the raw request.
        id: its account and nonce.
        seen_ms: this replica's clock when it first saw the request.
        spread: its client states that it sent the request to every replica.
        proposed: it stands in an open batch.
        forward_ms: when to remind the primary of it.
        overtaken_at: so many executed requests in all may come before it, and no more; 0 while it is young.
    """

    __slots__ = ("body", "digest", "forward_ms", "id", "overtaken_at", "proposed", "seen_ms", "spread")

    def __init__(self, digest: bytes, body: bytes, id_: RequestId, seen_ms: int, spread: bool) -> None:
        self.digest = digest
        self.body = body
        self.id = id_
        self.seen_ms = seen_ms
        self.spread = spread
        self.proposed = False
        self.forward_ms = seen_ms
        self.overtaken_at = 0


class RequestPool:
    """All pending requests of a replica.

    Args:
        limit_requests, limit_bytes: the most it holds in all.
        limit_per_account: the most that one account may have waiting.
    """

    def __init__(self, limit_requests: int, limit_bytes: int, limit_per_account: int) -> None:
        self._limits = limit_requests, limit_bytes, limit_per_account
        self._entries: dict[bytes, Pending] = {}
        self._held: dict[bytes, int] = {}
        self._queues: dict[bytes, list[tuple[int, bytes]]] = {}
        self._waiting = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._entries.values())

    @property
    def has_waiting(self) -> bool:
        """Whether a request waits that stands in no open batch."""
        return bool(self._queues)

    @property
    def waiting(self) -> int:
        """How many requests wait that stand in no open batch."""
        return self._waiting

    def get(self, digest: bytes) -> Pending | None:
        """The pending request of this digest, if it is here."""
        return self._entries.get(digest)

    def add(self, entry: Pending) -> None:
        """Queue a request whose digest is not here yet; raises QueueFull."""
        limit_requests, limit_bytes, limit_per_account = self._limits
        account = entry.id.account
        if self._held.get(account, 0) >= limit_per_account:
            raise QueueFull(
                "an account has too many requests waiting",
                seen=self._held[account],
                wanted=f"at most {limit_per_account}",
            )
        if len(self._entries) >= limit_requests or self.size_bytes + len(entry.body) > limit_bytes:
            raise QueueFull(
                "the queue of requests is full", seen=len(self._entries), wanted=f"at most {limit_requests}"
            )
        self._entries[entry.digest] = entry
        self._held[account] = self._held.get(account, 0) + 1
        self.size_bytes += len(entry.body)
        self._enqueue(entry)

    def remove(self, digest: bytes) -> None:
        """Forget a request (it was executed, or expired)."""
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        account = entry.id.account
        self.size_bytes -= len(entry.body)
        self._held[account] -= 1
        if not self._held[account]:
            del self._held[account]
        if not entry.proposed:
            self._dequeue(entry)

    def propose(self, digests: Iterable[bytes]) -> None:
        """Note that these requests stand in an open batch now."""
        for digest in digests:
            entry = self._entries.get(digest)
            if entry is not None and not entry.proposed:
                entry.proposed = True
                self._dequeue(entry)

    def release(self) -> None:
        """Note that no request stands in an open batch any more: the view that proposed them ended."""
        for entry in self._entries.values():
            if entry.proposed:
                entry.proposed = False
                self._enqueue(entry)

    def head(self, entry: Pending) -> bool:
        """Whether this request is the next of its account."""
        queue = self._queues.get(entry.id.account)
        return queue is not None and queue[0][1] == entry.digest

    def take(self, limit_requests: int, limit_bytes: int) -> list[Pending]:
        """The next batch: one request of each account in turn, until a limit or the end; all of them now count as
        proposed.
        """
        taken: list[Pending] = []
        size_bytes = 0
        while self._queues and len(taken) < limit_requests:
            account = next(iter(self._queues))
            queue = self._queues.pop(account)
            entry = self._entries[queue[0][1]]
            if size_bytes + len(entry.body) > limit_bytes:
                self._queues = {account: queue, **self._queues}
                break
            del queue[0]
            if queue:
                self._queues[account] = queue
            entry.proposed = True
            self._waiting -= 1
            size_bytes += len(entry.body)
            taken.append(entry)
        return taken

    def expire(self, before_ms: int) -> int:
        """Forget waiting requests first seen before `before_ms`; returns how many."""
        old = [entry.digest for entry in self._entries.values() if entry.seen_ms < before_ms and not entry.proposed]
        for digest in old:
            self.remove(digest)
        return len(old)

    def _enqueue(self, entry: Pending) -> None:
        self._waiting += 1
        insort(self._queues.setdefault(entry.id.account, []), (entry.id.nonce, entry.digest))

    def _dequeue(self, entry: Pending) -> None:
        queue = self._queues.get(entry.id.account)
        if queue is None:
            return
        self._waiting -= 1
        queue.remove((entry.id.nonce, entry.digest))
        if not queue:
            del self._queues[entry.id.account]
