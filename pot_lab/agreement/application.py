"""What the replicas agree about: the interface between consensus and the state that it orders (the ledger, in PoT Lab).

The replica has only `Application` of the ledger: it validates requests before they are queued, executes agreed batches,
and compares the digests that come back. Nothing here may depend on what a request means. An application is
deterministic: two of them that executed the same batches return equal replies, events and digests, on any machine. It
reads no clock (time is `Batch.time_ms`), no randomness, no socket and no file.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from pot_lab.crypto.canonical import Record

CONTACT_LIMIT_BYTES = 512


class RequestId(Record, frozen=True):
    """The account of a request, and which of its requests this is.

    Attributes:
        account: the 20-byte address whose signature the request carries.
        nonce: the account's own counter; the application refuses one that does not grow.
    """

    account: bytes
    nonce: int


class Seat(Record, frozen=True):
    """One place in the set of replicas.

    Attributes:
        address: the 20-byte address that signs its votes.
        contact: what a runtime needs to reach it, in the application's own form; empty where the network's file
            has it.
    """

    address: Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
    contact: Annotated[bytes, msgspec.Meta(max_length=CONTACT_LIMIT_BYTES)] = b""


class Batch(Record, frozen=True):
    """One agreed step: requests in their agreed order at one agreed time.

    Attributes:
        sequence: 1 for the first batch, then without gaps.
        time_ms: milliseconds since the Unix epoch, never before the previous batch's.
        requests: raw requests, each of which passed `Application.validate` at a quorum of replicas; may be empty.
        since: the checkpoint after which the set that decided it is in force (0: the network's first set).
    """

    sequence: int
    time_ms: int
    requests: tuple[bytes, ...]
    since: int = 0


class Execution(Record, frozen=True):
    """What a batch did.

    Attributes:
        replies: one for each request of the batch, in its order; a refused request's reply holds the reason.
        events: what happened, for subscribers and duties, in order.
        digest: 32 bytes, the application's state after the batch.
    """

    replies: tuple[bytes, ...]
    events: tuple[bytes, ...]
    digest: bytes


class Application(Protocol):
    """The state machine that a set of replicas keeps equal."""

    def validate(self, request: bytes) -> RequestId:
        """Admit a request to the queue: size, shape and signature only, nothing that depends on the state.

        Raises:
            PotLabError: the rule that the request breaks; it is then never ordered.
        """
        ...

    def execute(self, batch: Batch) -> Execution:
        """Apply an agreed batch. Never raises for a request: its reply holds the reason of a refusal.

        The replica leaves out requests that it ran recently; older repetitions are the application's to refuse (by
        nonce).
        """
        ...

    def due_ms(self) -> int | None:
        """The earliest time at which the state needs a batch even without requests; None if there is no such time.

        Returns: milliseconds since the Unix epoch.
        """
        ...

    def seats(self) -> tuple[Seat, ...] | None:
        """The set of replicas that the state asks for; None where it never changes.

        The same object while nothing changes. What differs from the set in force takes its place after a checkpoint, a
        window or more later (consensus.md).
        """
        ...

    def query(self, name: str, arguments: bytes) -> bytes:
        """Read the state; not ordered, answered by one replica alone.

        Clients accept an answer that f+1 replicas give in equal bytes, so an answer depends on nothing but the state.

        Raises:
            PotLabError: unknown name or bad arguments.
        """
        ...

    def snapshot(self) -> bytes:
        """The whole state as bytes; equal states give equal bytes."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Replace the state by a snapshot's."""
        ...
