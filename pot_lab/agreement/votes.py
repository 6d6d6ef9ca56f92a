"""Signed votes: what a member of the set signs, and the digest that the signature covers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pot_lab.crypto.canonical import Record, tagged_hash
from pot_lab.crypto.identity import Address, Recover, recover

PRE_PREPARE, PREPARE, COMMIT, VIEW_CHANGE, NEW_VIEW, CHECKPOINT, RESULT = 1, 2, 3, 4, 5, 6, 7


_VOTE_TAG = "pot-lab/consensus/vote/1"


Phase = Annotated[int, msgspec.Meta(ge=PRE_PREPARE, le=RESULT)]


Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


Signature = Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]


class SignedVote(Record, frozen=True):
    """A signed message of any phase, reduced to what its signature covers."""

    phase: Phase
    view: Number
    sequence: Number
    digest: Hash
    executed: Number
    state: Hash
    signature: Signature

    def signer(self, network_id: bytes, recover: Recover = recover) -> Address:
        """The 20-byte address that signed; raises BadSignature where none did."""
        signed = vote_digest(network_id, self.phase, self.view, self.sequence, self.digest, self.executed, self.state)
        return recover(signed, self.signature)


def vote_digest(
    network_id: bytes, phase: int, view: int, sequence: int, digest: bytes, executed: int, state: bytes
) -> bytes:
    """The 32 bytes that a vote's signature covers."""
    return tagged_hash(
        _VOTE_TAG,
        network_id,
        phase.to_bytes(1, "big") + view.to_bytes(8, "big") + sequence.to_bytes(8, "big"),
        digest,
        executed.to_bytes(8, "big"),
        state,
    )
