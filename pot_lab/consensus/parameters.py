"""The sizes, counts and times that bound a replica: every queue has an end and every wait has a limit.

All replicas of a network share `clock_precision_ms`, `message_delay_ms`, the batch limits and the reply cache's size,
since these decide what is agreed; the rest is each one's own. Nothing here may depend on the machine.
"""

from __future__ import annotations

from pot_lab.crypto.canonical import Record
from pot_lab.errors import PotLabError


class BadParameters(PotLabError):
    """A replica was given limits that cannot work.

    What to do: set the limit that the message names within its bounds.
    """


_MAY_BE_0 = ("clock_precision_ms", "inline_bytes", "beside_requests", "body_delay_ms")


class ConsensusParameters(Record, frozen=True):
    """Limits of a replica.

    Attributes:
        clock_precision_ms, message_delay_ms: how far a proposed time may lie from a replica's own clock.
        batch_requests, batch_bytes: the largest batch.
        request_bytes: the largest request.
        in_flight: batches that the primary keeps open at once; what queues meanwhile makes the next batch larger.
        beside_requests: a batch beside an open one has at least so many requests for each replica (Nagle's rule, RFC
            896): a batch costs every replica 2n votes, about as much as n requests, so smaller ones would only add
            votes where all are busy already. 0 lets any request open the next batch at once.
        window: how far above the executed sequence a replica takes part (the distance of the watermarks).
        inline_bytes: a batch up to this size carries its requests' bodies even if clients sent them to everyone.
        pending_requests, pending_bytes, pending_per_account: the queue of requests not yet executed.
        pending_ttl_ms: a request that nobody orders is forgotten after this time.
        cached_replies, cached_bytes: the replies kept for retries.
        forward_delay_ms: how long a backup leaves a request that its client sent to everyone to the primary.
        body_delay_ms: how long a replica waits for bodies that clients send to everyone before it asks the primary (so
            many times that for each whole 16 replicas).
        resend_ms: how long without a vote until a replica repeats its own.
        status_ms: how often an idle replica reports its position to the others (so many times that for each whole 16
            replicas).
        sync_delay_ms: how long a replica may be behind before it asks for decisions.
        fetch_timeout_ms: how long it waits for them.
        request_timeout_ms: how long a primary may let admitted requests, an open batch or a due deadline wait (so many
            times that for each whole 16 replicas); doubles with each change of view that brings nothing.
        snapshot_batches, snapshot_bytes: after so many batches, or so many bytes in them, a checkpoint comes with a
            snapshot, and the log below it is dropped (equal in all replicas of a network).
        chunk_bytes: the size of the parts in which snapshots travel (equal in all replicas of a network).
    """

    clock_precision_ms: int = 500
    message_delay_ms: int = 2_000
    batch_requests: int = 500
    batch_bytes: int = 512 * 1024
    request_bytes: int = 256 * 1024
    in_flight: int = 4
    beside_requests: int = 4
    window: int = 64
    inline_bytes: int = 16 * 1024
    pending_requests: int = 10_000
    pending_bytes: int = 32 * 1024 * 1024
    pending_per_account: int = 256
    pending_ttl_ms: int = 120_000
    cached_replies: int = 4_096
    cached_bytes: int = 4 * 1024 * 1024
    forward_delay_ms: int = 300
    body_delay_ms: int = 25
    resend_ms: int = 500
    status_ms: int = 1_000
    sync_delay_ms: int = 150
    fetch_timeout_ms: int = 1_000
    request_timeout_ms: int = 1_500
    snapshot_batches: int = 512
    snapshot_bytes: int = 64 * 1024 * 1024
    chunk_bytes: int = 1024 * 1024

    @property
    def time_tolerance_ms(self) -> int:
        """How far a proposed time may lie from a replica's own clock."""
        return self.clock_precision_ms + self.message_delay_ms

    @property
    def checkpoint_batches(self) -> int:
        """The distance between checkpoints: a quarter of the window, so that it never stands still for one."""
        return max(1, self.window // 4)

    def check(self) -> None:
        """Raise BadParameters unless every limit is positive and a batch has room for the largest request."""
        for name in self.__struct_fields__:
            if getattr(self, name) < 0 or (getattr(self, name) == 0 and name not in _MAY_BE_0):
                raise BadParameters(f"{name} is not a limit", seen=getattr(self, name), wanted="a positive number")
        if self.batch_bytes < self.request_bytes:
            raise BadParameters(
                "a batch has no room for the largest request", seen=self.batch_bytes, wanted=f">= {self.request_bytes}"
            )
        if self.in_flight > self.window:
            raise BadParameters(
                "more batches in flight than the window holds", seen=self.in_flight, wanted=f"<= {self.window}"
            )
