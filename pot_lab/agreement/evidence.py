"""Evidence of double signing: two votes that no honest replica signs both.

Same network, phase, view and sequence, two digests, both signatures by the same account: that is an `Equivocation`, and
anyone, the ledger and a contract included, can check it later. Votes that differ only in the state they report are not
an equivocation; they show a divergence, which stops replicas but proves no intent. View changes, new views and
checkpoints are signed in the same form: an honest replica signs one of each for a view, or for a sequence.
"""

from __future__ import annotations

from pot_lab.agreement.votes import SignedVote
from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Address, Recover, recover
from pot_lab.errors import PotLabError


class NoEquivocation(PotLabError):
    """Two votes offered as evidence do not contradict each other, or were not signed by one account.

    What to do: submit two votes of one account, for the same step, that contradict each other.
    """


class Equivocation(Record, frozen=True):
    """Two contradicting votes of one replica."""

    first: SignedVote
    second: SignedVote

    def accused(self, network_id: bytes, recover: Recover = recover) -> Address:
        """Check the evidence and return the 20-byte address that signed both votes.

        Raises:
            NoEquivocation: the votes agree, are about different steps, or have different signers.
            BadSignature: one of them is not signed at all.
        """
        step = [(vote.phase, vote.view, vote.sequence) for vote in (self.first, self.second)]
        if step[0] != step[1]:
            raise NoEquivocation("two votes are about different steps", seen=step[1], wanted=step[0])
        if self.first.digest == self.second.digest:
            raise NoEquivocation("two votes name the same batch", seen=self.second.digest)
        signer = self.first.signer(network_id, recover)
        if self.second.signer(network_id, recover) != signer:
            raise NoEquivocation("two votes were signed by different accounts", wanted=signer)
        return signer
