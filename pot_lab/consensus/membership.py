"""Who the replicas are, whether one of them signed something, and how one set follows another.

A set is in force from the checkpoint after which it took over (its era) to the one after which the next does; that
checkpoint, signed by the old set, names the new one. So the first set is enough to follow to any later one.

A signature that was found good once is remembered, bounded: certificates of a view change and of a checkpoint repeat
the same votes many times over.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from pot_lab.agreement.application import Seat
from pot_lab.agreement.quorum import LARGEST_SET, SMALLEST_SET, check_size, quorum
from pot_lab.agreement.votes import CHECKPOINT, PRE_PREPARE, PREPARE, SignedVote, vote_digest
from pot_lab.consensus.messages import NO_HASH, CheckpointProof, Handover, PreparedProof
from pot_lab.crypto.canonical import sha256, tagged_hash
from pot_lab.crypto.identity import Recover, recover
from pot_lab.errors import PotLabError

NO_SEAT = -1
OUTSIDERS = 1_000
"""The numbers from here on name peers that have no seat in the set in force."""
_REMEMBERED = 4_096


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """Who the replicas are.

    Attributes:
        network_id: 32 bytes that every signature names.
        addresses: each replica's 20-byte address, by index.
        index: which of them this replica is; `NO_SEAT` where it has no seat.
        contacts: how each is reached; empty for a network's first set, which its file describes.
        since: their era: they are in force after the checkpoint of this sequence.
        before: the digest of the set before them; 32 zeros for the first.
    """

    network_id: bytes
    addresses: tuple[bytes, ...]
    index: int
    contacts: tuple[bytes, ...] = ()
    since: int = 0
    before: bytes = NO_HASH

    @property
    def n(self) -> int:
        """The number of replicas."""
        return len(self.addresses)

    @property
    def seats(self) -> tuple[Seat, ...]:
        """The replicas as the application names them."""
        contacts = self.contacts or (b"",) * len(self.addresses)
        return tuple(Seat(address, contact) for address, contact in zip(self.addresses, contacts, strict=True))

    @property
    def digest(self) -> bytes:
        """The 32 bytes that a checkpoint signs for the set in force after it, and so for all the sets before."""
        return members_digest(self.before, self.since, self.seats)

    def succeeded(self, since: int, seats: tuple[Seat, ...]) -> Membership:
        """The set that follows this one, for the replica with this replica's address."""
        own = self.addresses[self.index] if self.index != NO_SEAT else b""
        return self.of(self.digest, since, seats, own)

    def of(self, before: bytes, since: int, seats: tuple[Seat, ...], own: bytes) -> Membership:
        """Another set of the same network, as the replica with address `own` sees it."""
        addresses = tuple(seat.address for seat in seats)
        index = addresses.index(own) if own in addresses else NO_SEAT
        return Membership(
            network_id=self.network_id,
            addresses=addresses,
            index=index,
            contacts=tuple(seat.contact for seat in seats),
            since=since,
            before=before,
        )


def members_digest(before: bytes, since: int, seats: tuple[Seat, ...]) -> bytes:
    """The digest of a set: the set before it, its era, its addresses and the hashes of its contacts."""
    return tagged_hash(
        "pot-lab/consensus/members/1",
        before,
        since.to_bytes(8, "big"),
        b"".join(seat.address for seat in seats),
        b"".join(sha256(seat.contact) for seat in seats),
    )


class Verifier:
    """Checks signatures and certificates of one set of replicas.

    Args:
        membership: the set.
        recover: gives the address that signed a digest, as `crypto.identity.recover` does.
    Raises:
        BadReplicaCount: no set of replicas has this size.
    """

    def __init__(self, membership: Membership, recover: Recover = recover) -> None:
        check_size(membership.n)
        self.membership, self._recover = membership, recover
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
            return 0 <= replica < self.n and self._recover(signed, signature) == self._addresses[replica]
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
            good = 0 <= replica < self.n and self._recover(signed, vote.signature) == self._addresses[replica]
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


class Succession:
    """The sets of one network, from the first on, each proved by the one before.

    Args:
        first: the network's first set.
        recover: gives the address that signed a digest, as `crypto.identity.recover` does.
    """

    def __init__(self, first: Membership, recover: Recover = recover) -> None:
        self._recover = recover
        self._sets = [Verifier(first, recover)]
        self.handovers: list[Handover] = []

    @property
    def latest(self) -> Verifier:
        """The last set that is known."""
        return self._sets[-1]

    def at(self, sequence: int) -> Verifier:
        """The set that decides the batch and signs the checkpoint of this sequence, as far as the sets are known."""
        return next(
            each for each in reversed(self._sets) if each.membership.since < sequence or not each.membership.since
        )

    def of(self, era: int) -> Verifier | None:
        """The set of an era; None where none is known."""
        return next((each for each in self._sets if each.membership.since == era), None)

    def since(self, era: int) -> tuple[Handover, ...]:
        """The handovers after an era."""
        return tuple(each for each in self.handovers if each.proof.sequence > era)

    def follow(self, handover: Handover) -> bool:
        """Take the next set, if the last one signed for it; whether it is known now."""
        proof, seats, last = handover.proof, handover.seats, self.latest.membership
        if proof.sequence <= last.since:
            known = self.of(proof.sequence)
            return known is not None and known.membership.seats == seats
        if (
            not SMALLEST_SET <= len(seats) <= LARGEST_SET
            or len({seat.address for seat in seats}) != len(seats)
            or proof.snapshot == NO_HASH
            or proof.snapshot != snapshot_digest(handover.body, members_digest(last.digest, proof.sequence, seats))
            or not self.latest.stable(proof)
        ):
            return False
        self._take(handover)
        return True

    def recall(self, handover: Handover) -> None:
        """Take a handover from the own log."""
        if handover.proof.sequence > self.latest.membership.since:
            self._take(handover)

    def _take(self, handover: Handover) -> None:
        last = self.latest.membership
        self._sets.append(Verifier(last.succeeded(handover.proof.sequence, handover.seats), self._recover))
        self.handovers.append(handover)


def snapshot_digest(body: bytes, members: bytes) -> bytes:
    """The 32 bytes that a checkpoint signs for a snapshot: of its bytes (`body_digest`), and of the set in force after
    it.
    """
    return tagged_hash("pot-lab/consensus/snapshot/2", body, members)
