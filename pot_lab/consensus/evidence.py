"""Proof that a replica lied: two votes that no honest replica signs both.

Same network, phase, view and sequence, two batch digests, both signatures by the same account: that is an
`Equivocation`, and anyone, the ledger and a contract included, can check it without having been there. Votes that
differ only in the state they report are no equivocation; they show a divergence, which stops replicas but proves no
intent.
"""

from __future__ import annotations

from pot_lab.consensus.messages import (
    COMMIT,
    PRE_PREPARE,
    PREPARE,
    Hash,
    Number,
    Prepare,
    PrePrepare,
    Signature,
    Vote,
    batch_digest,
    vote_digest,
)
from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import recover
from pot_lab.errors import PotLabError


class NoEquivocation(PotLabError):
    """Two votes offered as evidence do not contradict each other, or were not signed by one account."""


class SignedVote(Record, frozen=True):
    """A pre-prepare, prepare or commit reduced to what its signature covers."""

    phase: Number
    view: Number
    sequence: Number
    digest: Hash
    executed: Number
    state: Hash
    signature: Signature

    def signer(self, network_id: bytes) -> bytes:
        """The 20-byte address that signed; raises BadSignature where none did."""
        signed = vote_digest(network_id, self.phase, self.view, self.sequence, self.digest, self.executed, self.state)
        return recover(signed, self.signature)


class Equivocation(Record, frozen=True):
    """Two contradicting votes of one replica."""

    first: SignedVote
    second: SignedVote

    def accused(self, network_id: bytes) -> bytes:
        """Check the evidence and return the liar's 20-byte address.

        Raises:
            NoEquivocation: the votes agree, are about different steps, or have different signers.
            BadSignature: one of them is not signed at all.
        """
        step = [(vote.phase, vote.view, vote.sequence) for vote in (self.first, self.second)]
        if step[0] != step[1]:
            raise NoEquivocation("two votes are about different steps", seen=step[1], wanted=step[0])
        if self.first.digest == self.second.digest:
            raise NoEquivocation("two votes name the same batch", seen=self.second.digest)
        signer = self.first.signer(network_id)
        if self.second.signer(network_id) != signer:
            raise NoEquivocation("two votes were signed by different accounts", wanted=signer)
        return signer


def signed_vote(message: PrePrepare | Vote) -> SignedVote:
    """Reduce a message to the vote in it."""
    if isinstance(message, PrePrepare):
        phase, digest = PRE_PREPARE, batch_digest(message.sequence, message.time_ms, message.digests)
    else:
        phase, digest = PREPARE if isinstance(message, Prepare) else COMMIT, message.digest
    return SignedVote(phase, message.view, message.sequence, digest, message.executed, message.state, message.signature)
