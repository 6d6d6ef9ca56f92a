"""What goes into a replica's step and what comes out of it, as data.

The host turns sockets and clock into inputs, and `driver.Driver` carries the effects out: it writes every `Persist`
and, when one of them is urgent, syncs the disk before anything of the same turn is sent.
"""

from __future__ import annotations

import msgspec

from pot_lab.agreement.application import Execution
from pot_lab.agreement.evidence import Equivocation
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import CheckpointProof, Message
from pot_lab.consensus.records import LogRecord
from pot_lab.errors import PotLabError


class Received(msgspec.Struct, frozen=True):
    """A message from a replica; `sender` is its index in the set in force here, as the channel proved it.

    A peer without a seat in that set (one that left or comes, as this replica may itself) has a number from `OUTSIDERS`
    on; it may only fetch, and show what is proved.
    """

    sender: int
    message: Message


class Submitted(msgspec.Struct, frozen=True):
    """A client's request.

    Attributes:
        request: its bytes.
        spread: the client states that it sent the request to every replica.
        digest: its `request_digest` where the host has computed it already, or empty.
    """

    request: bytes
    spread: bool = False
    digest: bytes = b""


class Tick(msgspec.Struct, frozen=True):
    """The replica's own clock, milliseconds since the Unix epoch; never goes back within a process."""

    now_ms: int


class Recovered(msgspec.Struct, frozen=True):
    """Records of this replica's log, in order, in as many parts as the host likes; the first input of all.

    A new replica gets one final part without records.
    """

    records: tuple[LogRecord, ...]
    final: bool = True


class Restored(msgspec.Struct, frozen=True):
    """The snapshot that this replica's log goes on from, with the checkpoint in the log's first record; comes before
    `Recovered`.
    """

    proof: CheckpointProof
    snapshot: bytes


Input = Received | Submitted | Tick | Recovered | Restored


class Persist(msgspec.Struct, frozen=True):
    """Append to the log; an urgent record must be on disk before any later effect leaves the process."""

    record: LogRecord
    urgent: bool


class Send(msgspec.Struct, frozen=True):
    """Send to one replica."""

    to: int
    message: Message


class Broadcast(msgspec.Struct, frozen=True):
    """Send to every other replica."""

    message: Message


class SendReply(msgspec.Struct, frozen=True, kw_only=True):
    """A request was executed (now, or before: a retry): the clients that submitted it get the reply."""

    digest: bytes
    sequence: int
    time_ms: int
    reply: bytes


class SendRefusal(msgspec.Struct, frozen=True):
    """A request was not even queued."""

    digest: bytes
    error: PotLabError


class Executed(msgspec.Struct, frozen=True, kw_only=True):
    """A batch was executed; `state` is the replica's state digest after it."""

    sequence: int
    time_ms: int
    requests: int
    execution: Execution
    state: bytes
    replayed: bool


class ServeDecisions(msgspec.Struct, frozen=True):
    """Read executed batches `first` to `last` back from the log and send them to a replica as `Decisions`."""

    to: int
    first: int
    last: int


class KeepSnapshot(msgspec.Struct, frozen=True):
    """Write the state after `sequence` to a file of its own; it counts once `Compact` names it."""

    sequence: int
    snapshot: bytes


class Compact(msgspec.Struct, frozen=True):
    """The snapshot of this checkpoint is what this replica comes back from now.

    Sync its file, then replace the log, all or nothing, by one that begins with `Stabilised(proof)` and goes on with
    what the old one holds of later sequences (`records.compacted`); then remove older snapshots.
    """

    proof: CheckpointProof


class ServeChunk(msgspec.Struct, frozen=True):
    """Read a part of the snapshot that `Compact` named last, and send it to a replica as `Chunk`."""

    to: int
    sequence: int
    index: int


class SetTimer(msgspec.Struct, frozen=True):
    """Step a `Tick` no later than at this time; replaces the timer set before. None: no need to."""

    at_ms: int | None


class ReportEquivocation(msgspec.Struct, frozen=True):
    """A replica equivocated; the host brings the evidence to the ledger."""

    accused: int
    evidence: Equivocation


class MembersChanged(msgspec.Struct, frozen=True):
    """Another set of replicas is in force: indices in later inputs and effects are this set's.

    The host connects to the new ones, disconnects from the old ones, and stops once `membership.index` is `NO_SEAT`:
    this replica has no seat any more.
    """

    membership: Membership


class Halt(msgspec.Struct, frozen=True):
    """This replica must stop: going on could only spread its fault."""

    error: PotLabError


Effect = (
    Persist
    | Send
    | Broadcast
    | SendReply
    | SendRefusal
    | Executed
    | ServeDecisions
    | KeepSnapshot
    | Compact
    | ServeChunk
    | SetTimer
    | ReportEquivocation
    | MembersChanged
    | Halt
)
