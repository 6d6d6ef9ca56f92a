"""A result that anyone can check alone: q replicas' signatures over what a batch left behind, and a path to one reply.

Replicas chain their states: each covers the one before, the batch, and the roots of its replies and events. So a
client that knows the replicas' addresses accepts a reply that hangs under a state which q of them signed, without
asking any of them, whenever and wherever; the hashes and signatures are such that a contract can do the same. Votes
come before execution and cannot carry this; a replica signs it when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from pot_lab.agreement.quorum import quorum
from pot_lab.agreement.votes import RESULT, Hash, Number, vote_digest
from pot_lab.consensus.messages import MAX_REPLICAS, Attestation, request_digest
from pot_lab.crypto.canonical import Record, tagged_hash
from pot_lab.crypto.identity import recover
from pot_lab.crypto.merkle import MerkleProof
from pot_lab.errors import PotLabError


class NoProof(PotLabError):
    """A replica cannot prove a reply: it ran too long ago, or never.

    What to do: request the proof from another aggregator, soon after the reply.
    """


class BadProof(PotLabError):
    """A proof does not prove its reply.

    What to do: do not trust the reply; request it again from the network.
    """


class BatchHeader(Record, frozen=True, kw_only=True):
    """What a batch left behind.

    Attributes:
        sequence: the batch's place.
        previous: the state before it.
        batch: its digest (sequence, proposed time and requests).
        replies: Merkle root over request digest + reply, in order; 32 zeros where nothing ran.
        events: Merkle root over its events; 32 zeros where there are none.
        application: the application's own digest after it.
    """

    sequence: Number
    previous: Hash
    batch: Hash
    replies: Hash
    events: Hash
    application: Hash

    @property
    def state(self) -> bytes:
        """The replicas' state after the batch (32 bytes)."""
        return tagged_hash(
            "pot-lab/consensus/state/1", self.previous, self.batch, self.replies, self.events, self.application
        )

    def signed(self, network_id: bytes, era: int) -> bytes:
        """The 32 bytes that a replica of the set of `era` signs for this result."""
        return vote_digest(network_id, RESULT, era, self.sequence, self.batch, self.sequence, self.state)


class ReplyProof(Record, frozen=True, kw_only=True):
    """A reply, its way up to the header, and who signed for that; one replica's part of it has one signature.

    `era` names the set whose indices the attestations mean (`membership.Succession` leads there from the first set); it
    may be a later one than that which decided the batch.
    """

    header: BatchHeader
    era: Number
    request: Hash
    reply: bytes
    path: MerkleProof
    attestations: Annotated[tuple[Attestation, ...], msgspec.Meta(max_length=MAX_REPLICAS)]


def reply_leaf(request: bytes, reply: bytes) -> bytes:
    """A request's leaf under `Header.replies`; `request` is its digest."""
    return request + reply


def verify(proof: ReplyProof, network_id: bytes, addresses: Sequence[bytes], request: bytes, *, era: int = 0) -> bytes:
    """Check a proof against the addresses of an era's replicas alone, and return the reply to `request` (its bytes).

    Raises:
        BadProof: another request's, another era's, fewer than q valid signatures, or a path that does not lead to what
            they signed.
    """
    if proof.request != request_digest(request):
        raise BadProof("a proof is about another request", seen=proof.request)
    if not proof.path.verify(proof.header.replies, reply_leaf(proof.request, proof.reply)):
        raise BadProof("a reply does not hang under its header", seen=proof.header.sequence)
    if proof.era != era:
        raise BadProof("a proof is signed by the set of another era", seen=proof.era, wanted=era)
    signed, needed = proof.header.signed(network_id, era), quorum(len(addresses))
    signers: set[int] = set()
    for each in proof.attestations:
        try:
            if each.replica < len(addresses) and recover(signed, each.signature) == addresses[each.replica]:
                signers.add(each.replica)
        except PotLabError:
            continue
    if len(signers) < needed:
        raise BadProof("too few replicas signed a result", seen=len(signers), wanted=f"at least {needed}")
    return proof.reply


def assemble(
    parts: Iterable[ReplyProof], network_id: bytes, addresses: Sequence[bytes], *, era: int = 0
) -> ReplyProof | None:
    """Join replicas' parts that state the same into a proof; None while fewer than q of them do."""
    needed = quorum(len(addresses))
    alike: dict[bytes, dict[int, Attestation]] = {}
    for part in parts:
        if len(part.attestations) != 1 or part.era != era:
            continue
        each = part.attestations[0]
        try:
            if (
                each.replica >= len(addresses)
                or recover(part.header.signed(network_id, part.era), each.signature) != addresses[each.replica]
            ):
                continue
        except PotLabError:
            continue
        bare = msgspec.structs.replace(part, attestations=())
        group = alike.setdefault(msgspec.msgpack.encode(bare), {})
        group[each.replica] = each
        if len(group) == needed:
            return msgspec.structs.replace(bare, attestations=tuple(group[index] for index in sorted(group)))
    return None
