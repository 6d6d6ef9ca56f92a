"""Who the replicas are, and whether one of them signed something.

A signature that was found good once is remembered, bounded: certificates of a view change and of a checkpoint repeat
the same votes many times over.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from pot_lab.consensus.messages import (
    CHECKPOINT,
    PRE_PREPARE,
    PREPARE,
    CheckpointProof,
    PreparedProof,
    SignedVote,
    vote_digest,
)
from pot_lab.consensus.quorum import quorum
from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import recover
from pot_lab.errors import PotLabError

_REMEMBERED = 4_096


class Membership(msgspec.Struct, frozen=True):
    """Who the replicas are.

    Attributes:
        network_id: 32 bytes that every signature names.
        addresses: each replica's 20-byte address, by index.
        index: which of them this replica is.
    """

    network_id: bytes
    addresses: tuple[bytes, ...]
    index: int

    @property
    def n(self) -> int:
        """The number of replicas."""
        return len(self.addresses)


class Verifier:
    """Checks signatures and certificates of one set of replicas."""

    def __init__(self, membership: Membership) -> None:
        self._network_id, self._addresses = membership.network_id, membership.addresses
        self.n, self.q = membership.n, quorum(membership.n)
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def signed(
        self,
        replica: int,
        phase: int,
        view: int,
        sequence: int,
        digest: bytes,
        executed: int,
        state: bytes,
        signature: bytes,
    ) -> bool:
        """Whether this replica signed this vote; remembers nothing (normal case: each vote comes once)."""
        signed = vote_digest(self._network_id, phase, view, sequence, digest, executed, state)
        try:
            return 0 <= replica < self.n and recover(signed, signature) == self._addresses[replica]
        except PotLabError:
            return False

    def vote(self, replica: int, vote: SignedVote) -> bool:
        """Whether this replica signed this vote; remembers a good one."""
        signed = vote_digest(
            self._network_id, vote.phase, vote.view, vote.sequence, vote.digest, vote.executed, vote.state
        )
        key = tagged_hash("seen", signed, vote.signature, replica.to_bytes(8, "big"))
        if key in self._good:
            return True
        try:
            good = 0 <= replica < self.n and recover(signed, vote.signature) == self._addresses[replica]
        except PotLabError:
            return False
        if good:
            self._good[key] = None
            if len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)
        return good

    def prepared(self, proof: PreparedProof) -> bool:
        """Whether a prepared certificate is one: the primary's proposal and q-1 backups' prepares, all signed."""
        proposal = proof.proposal
        primary = proposal.view % self.n
        backups = {each.replica for each in proof.prepares}
        return (
            proposal.phase == PRE_PREPARE
            and len(backups) == len(proof.prepares)
            and len(backups) >= self.q - 1
            and primary not in backups
            and self.vote(primary, proposal)
            and all(
                self.vote(
                    each.replica,
                    SignedVote(
                        PREPARE,
                        proposal.view,
                        proposal.sequence,
                        proposal.digest,
                        each.executed,
                        each.state,
                        each.signature,
                    ),
                )
                for each in proof.prepares
            )
        )

    def stable(self, proof: CheckpointProof) -> bool:
        """Whether q replicas signed a checkpoint."""
        signers = {each.replica for each in proof.attestations}
        sequence = proof.sequence
        return (
            len(signers) == len(proof.attestations)
            and len(signers) >= self.q
            and all(
                self.vote(
                    each.replica,
                    SignedVote(CHECKPOINT, 0, sequence, proof.snapshot, sequence, proof.state, each.signature),
                )
                for each in proof.attestations
            )
        )
