"""Checkpoints count with a quorum that agrees, in their window; a snapshot's bytes are those that were signed."""

from __future__ import annotations

import pytest

from pot_lab.agreement.application import Seat
from pot_lab.agreement.votes import CHECKPOINT, vote_digest
from pot_lab.consensus.checkpoint import (
    Checkpoints,
    Snapshot,
    body_digest,
    decode_snapshot,
    encode_snapshot,
    manifest_of,
    takes_snapshot,
)
from pot_lab.consensus.membership import Membership, Verifier, members_digest, snapshot_digest
from pot_lab.consensus.messages import NO_HASH, Attestation, Checkpoint, CheckpointProof
from pot_lab.crypto.canonical import sha256, tagged_hash
from pot_lab.crypto.identity import Identity
from pot_lab.errors import Malformed, Oversize

NETWORK_ID = bytes(range(32))
IDENTITIES = [Identity(sha256(b"replica %d" % i)) for i in range(4)]
MEMBERS = Membership(network_id=NETWORK_ID, addresses=tuple(each.address for each in IDENTITIES), index=0)
SEATS = tuple(Seat(bytes([i]) * 20) for i in range(4))
CHUNK_BYTES = 64
STATE, OTHER = b"s" * 32, b"t" * 32


def signed(replica: int, sequence: int, state: bytes = STATE, snapshot: bytes = NO_HASH) -> Checkpoint:
    digest = vote_digest(NETWORK_ID, CHECKPOINT, 0, sequence, snapshot, sequence, state)
    return Checkpoint(sequence, state, snapshot, replica, IDENTITIES[replica].sign(digest))


def checkpoints() -> Checkpoints:
    return Checkpoints(Verifier(MEMBERS), every=5, window=20)


def test_a_checkpoint_is_kept_at_its_places_between_the_stable_one_and_two_windows_above() -> None:
    kept = checkpoints()
    assert [sequence for sequence in range(60) if kept.in_window(sequence)] == [5, 10, 15, 20, 25, 30, 35, 40]
    kept.settle(CheckpointProof(10, STATE, NO_HASH, ()))
    assert kept.low == 10
    assert [sequence for sequence in range(70) if kept.in_window(sequence)] == [15, 20, 25, 30, 35, 40, 45, 50]


def test_a_quorum_that_agrees_is_a_proof_and_one_less_is_none() -> None:
    kept = checkpoints()
    votes = [signed(replica, 5) for replica in range(4)]
    for vote in votes[:2]:
        assert kept.add(vote) and kept.agreed(5) is None
    assert kept.add(votes[2])
    proof = kept.agreed(5)
    attestations = tuple(Attestation(vote.replica, vote.signature) for vote in votes[:3])
    assert proof == CheckpointProof(5, STATE, NO_HASH, attestations)
    assert Verifier(MEMBERS).stable(proof)
    assert kept.add(votes[3]) and kept.agreed(5) == proof
    assert kept.agreed(10) is None


@pytest.mark.parametrize("other", [signed(2, 5, OTHER), signed(2, 5, STATE, OTHER)], ids=["state", "snapshot"])
def test_votes_for_another_state_or_snapshot_do_not_count_together(other: Checkpoint) -> None:
    kept = checkpoints()
    for vote in (signed(0, 5), other, signed(1, 5)):
        assert kept.add(vote)
    assert kept.agreed(5) is None
    assert kept.add(signed(3, 5))
    proof = kept.agreed(5)
    assert proof is not None and [each.replica for each in proof.attestations] == [0, 1, 3]


def test_each_replica_has_one_checkpoint_for_a_sequence_and_a_bad_signature_none() -> None:
    kept = checkpoints()
    vote = signed(1, 5)
    forged = Checkpoint(5, STATE, NO_HASH, 2, vote.signature)
    assert not kept.add(forged) and kept.kept(5, 2) is None
    assert kept.add(vote) and kept.add(signed(1, 5, OTHER))
    assert kept.kept(5, 1) == signed(1, 5, OTHER) and kept.kept(10, 1) is None
    for replica in (2, 3):
        kept.add(signed(replica, 5))
    assert kept.agreed(5) is None


def test_a_stable_checkpoint_drops_what_it_covers_and_nothing_above() -> None:
    kept = checkpoints()
    assert kept.low == 0 and kept.stable is None
    for sequence in (5, 10, 15):
        kept.add(signed(1, sequence))
    proof = CheckpointProof(10, STATE, NO_HASH, ())
    kept.settle(proof)
    assert kept.stable == proof and kept.low == 10
    assert [kept.kept(sequence, 1) is not None for sequence in (5, 10, 15)] == [False, False, True]


def test_a_snapshot_is_taken_after_so_many_batches_or_so_many_bytes() -> None:
    assert not takes_snapshot(19, 0, 99, every=20, limit_bytes=100)
    assert takes_snapshot(20, 0, 0, every=20, limit_bytes=100)
    assert takes_snapshot(19, 0, 100, every=20, limit_bytes=100)
    assert not takes_snapshot(35, 16, 0, every=20, limit_bytes=100)
    assert takes_snapshot(36, 16, 0, every=20, limit_bytes=100)


def test_a_manifest_has_a_digest_for_each_chunk_and_covers_the_last_byte() -> None:
    data = bytes(range(130))
    assert manifest_of(data, 64) == (sha256(data[:64]), sha256(data[64:128]), sha256(data[128:]))
    assert manifest_of(data[:128], 64) == (sha256(data[:64]), sha256(data[64:128]))
    assert manifest_of(b"", 64) == ()
    manifest = manifest_of(data, 64)
    parts = (130).to_bytes(8, "big"), b"".join(manifest)
    assert body_digest(130, manifest) == tagged_hash("pot-lab/consensus/snapshot-body/1", *parts)


def test_a_snapshots_bytes_are_those_that_were_signed_or_refused() -> None:
    snapshot = Snapshot(
        sequence=7,
        time_ms=5,
        state=b"s" * 32,
        before=bytes(32),
        era=0,
        seats=SEATS,
        ends=0,
        application=b"application" * 20,
        replies=b"replies",
    )
    data = encode_snapshot(snapshot)
    body = body_digest(len(data), manifest_of(data, CHUNK_BYTES))
    digest = snapshot_digest(body, members_digest(bytes(32), 0, SEATS))
    assert decode_snapshot(data, CheckpointProof(7, b"s" * 32, digest, ()), CHUNK_BYTES) == snapshot
    for proof in (
        CheckpointProof(8, b"s" * 32, digest, ()),
        CheckpointProof(7, b"t" * 32, digest, ()),
        CheckpointProof(7, b"s" * 32, bytes(32), ()),
    ):
        with pytest.raises(Malformed):
            decode_snapshot(data, proof, CHUNK_BYTES)
    with pytest.raises(Malformed):
        decode_snapshot(data + b"\0", CheckpointProof(7, b"s" * 32, digest, ()), CHUNK_BYTES)
    with pytest.raises(Oversize):
        decode_snapshot(data, CheckpointProof(7, b"s" * 32, digest, ()), 0)
