"""The small parts that a replica's state is made of: its slots, and what it remembers of proposals and snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from pot_lab.agreement.votes import SignedVote
from pot_lab.consensus.checkpoint import body_digest
from pot_lab.consensus.membership import snapshot_digest
from pot_lab.consensus.messages import CheckpointProof, Commit, Prepare, PrePrepare, Vote
from pot_lab.errors import InvariantBroken


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that this replica took or fetched, without its bytes.

    Attributes:
        sequence: the batch after which it was taken.
        size_bytes: its size.
        manifest: the digest of each of its chunks.
        members: the digest of the set of replicas in force after it.
    """

    sequence: int
    size_bytes: int
    manifest: tuple[bytes, ...]
    members: bytes

    @property
    def body(self) -> bytes:
        """The digest of its bytes."""
        return body_digest(self.size_bytes, self.manifest)

    @property
    def digest(self) -> bytes:
        """What its checkpoint signs."""
        return snapshot_digest(self.body, self.members)


@dataclass
class Snapshots:
    """The snapshots that a replica has.

    Attributes:
        taken: the last one that it took or fetched.
        offered: the last stable one, which it offers to others, with its checkpoint.
        compact_later: whether the log has to be compacted once it has been read.
        last_at: the batch after which the last one was taken.
        bytes_since: the size of the requests executed since.
    """

    taken: Taken | None = None
    offered: tuple[CheckpointProof, Taken] | None = None
    compact_later: bool = False
    last_at: int = 0
    bytes_since: int = 0


@dataclass
class Proposing:
    """What the next proposal depends on.

    Attributes:
        next_sequence: the sequence of the next batch that this replica would propose.
        time_ms: the latest time that was proposed.
        due_ms: the time at which the application wants a batch, if at any.
    """

    next_sequence: int = 1
    time_ms: int = 0
    due_ms: int | None = None


@dataclass
class Returned:
    """When this replica last came back from its log.

    Attributes:
        at_ms: its clock then.
        until: the highest sequence that may have been proposed while it was away.
    """

    at_ms: int = 0
    until: int = 0


@dataclass
class Resending:
    """When this replica repeats its votes.

    Attributes:
        after_ms: how long without a vote until then; doubles with each time.
        voted_at_ms: when the last vote for the next batch came.
        at_ms: when to look next; None while nothing is open.
    """

    after_ms: int
    voted_at_ms: int
    at_ms: int | None = None


@dataclass(slots=True)
class SlotVotes:
    """The votes for one sequence number in one view.

    Attributes:
        prepares, commits: by replica.
        verified: replicas whose prepares have a valid signature.
        shown: replicas that voted for another digest and were sent the proposal.
    """

    prepares: dict[int, Prepare] = field(default_factory=dict)
    commits: dict[int, Commit] = field(default_factory=dict)
    verified: set[int] = field(default_factory=set)
    shown: set[int] = field(default_factory=set)

    def count(self, vote: Vote) -> None:
        """Keep a replica's vote."""
        if isinstance(vote, Prepare):
            self.prepares[vote.replica] = vote
        else:
            self.commits[vote.replica] = vote


class Slot:
    """One sequence number in one view, from its first message until a checkpoint covers it.

    Attributes:
        vote: the primary's signed proposal.
        digest: of the proposed batch; empty until there is a proposal.
        proposal: the batch itself, once it is here and until it is executed.
        renewed: a new view proposes it again.
        bodies: the requests of the proposal that are here, by digest.
        missing: the digests of those that are not.
        arrived_ms: when the proposal came.
        accepted, prepared, executed: how far it is here.
        refused: this replica does not vote for the proposal.
        votes: the replicas' votes.
    """

    __slots__ = (
        "accepted",
        "arrived_ms",
        "bodies",
        "digest",
        "executed",
        "missing",
        "prepared",
        "proposal",
        "refused",
        "renewed",
        "vote",
        "votes",
    )

    def __init__(self) -> None:
        self.proposal: PrePrepare | None = None
        self.vote: SignedVote | None = None
        self.renewed = False
        self.executed = False
        self.digest = b""
        self.bodies: dict[bytes, bytes] = {}
        self.missing: set[bytes] = set()
        self.arrived_ms = 0
        self.accepted = False
        self.refused = False
        self.prepared = False
        self.votes = SlotVotes()

    def full_proposal(self) -> PrePrepare:
        """The proposal with every body in it; raises InvariantBroken while one is missing."""
        proposal = self.proposal
        if proposal is None or self.missing:
            raise InvariantBroken("a proposal is used before all its requests are here", seen=len(self.missing))
        return msgspec.structs.replace(proposal, bodies=tuple(self.bodies[digest] for digest in proposal.digests))
