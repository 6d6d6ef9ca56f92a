"""Whatever is written is read back; whatever else arrives is refused without harm; and a signature fits one vote
only."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.agreement.application import Seat
from pot_lab.agreement.votes import COMMIT, PRE_PREPARE, PREPARE, RESULT, SignedVote, vote_digest
from pot_lab.consensus.messages import (
    Attestation,
    BatchContent,
    BatchName,
    Checkpoint,
    CheckpointProof,
    Chunk,
    Commit,
    DecidedBatch,
    Decisions,
    Endorsement,
    FetchBatches,
    FetchBodies,
    FetchChunk,
    FetchDecisions,
    FetchViewChanges,
    Forward,
    Handover,
    Message,
    NewView,
    Offer,
    Prepare,
    PreparedProof,
    PrePrepare,
    Requests,
    Stable,
    Status,
    ViewChange,
    ViewVote,
    batch_digest,
    decode_message,
    encode_message,
    request_digest,
)
from pot_lab.errors import Malformed, Oversize

numbers = st.integers(0, 2**63 - 1)
hashes = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=65, max_size=65)
bodies = st.lists(st.binary(max_size=40), max_size=5).map(tuple)
commits = st.builds(Commit, numbers, numbers, hashes, numbers, hashes, numbers, signatures)
decided = st.builds(DecidedBatch, numbers, numbers, numbers, bodies, st.lists(commits, max_size=4).map(tuple))
signed_votes = st.builds(
    SignedVote, st.integers(PRE_PREPARE, RESULT), numbers, numbers, hashes, numbers, hashes, signatures
)
endorsements = st.lists(st.builds(Endorsement, numbers, numbers, hashes, signatures), max_size=3).map(tuple)
prepared = st.lists(st.builds(PreparedProof, signed_votes, endorsements), max_size=3).map(tuple)
attestations = st.lists(st.builds(Attestation, numbers, signatures), max_size=3).map(tuple)
proofs = st.builds(CheckpointProof, numbers, hashes, hashes, attestations)
seats = st.builds(Seat, st.binary(min_size=20, max_size=20), st.binary(max_size=9))
handovers = st.lists(st.builds(Handover, proofs, hashes, st.lists(seats, max_size=4).map(tuple)), max_size=2).map(tuple)
votes = st.lists(st.builds(ViewVote, numbers, hashes), max_size=4).map(tuple)
names = st.lists(st.builds(BatchName, numbers, hashes), max_size=3).map(tuple)
messages = st.one_of(
    st.builds(ViewChange, numbers, st.none() | proofs, prepared, st.integers(0, 4) | numbers, signatures, numbers),
    st.builds(NewView, numbers, votes, st.lists(signed_votes, max_size=3).map(tuple), signatures, numbers),
    st.builds(FetchViewChanges, numbers, st.lists(numbers, max_size=4).map(tuple)),
    st.builds(FetchBatches, names),
    st.builds(BatchContent, numbers, numbers, bodies),
    st.builds(Checkpoint, numbers, hashes, hashes, numbers, signatures),
    st.builds(Stable, proofs),
    st.builds(Offer, proofs, numbers, st.lists(hashes, max_size=3).map(tuple), hashes, handovers),
    st.builds(FetchChunk, numbers, numbers),
    st.builds(Chunk, numbers, numbers, st.binary(max_size=40)),
    st.builds(
        PrePrepare,
        numbers,
        numbers,
        numbers,
        st.lists(hashes, max_size=4).map(tuple),
        bodies,
        numbers,
        hashes,
        signatures,
    ),
    st.builds(Prepare, numbers, numbers, hashes, numbers, hashes, numbers, signatures),
    commits,
    st.builds(Forward, bodies),
    st.builds(FetchBodies, st.lists(hashes, max_size=4).map(tuple)),
    st.builds(Requests, bodies),
    st.builds(Status, numbers, st.booleans(), numbers, hashes, numbers, st.booleans()),
    st.builds(FetchDecisions, numbers, numbers),
    st.builds(Decisions, st.lists(decided, max_size=3).map(tuple)),
)


@given(messages)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode_message(encode_message(message), limit_bytes=1 << 20) == message


@given(st.binary(max_size=300))
def test_garbage_is_malformed_and_nothing_else(data: bytes) -> None:
    try:
        message = decode_message(data, limit_bytes=1 << 20)
    except Malformed:
        return
    assert decode_message(encode_message(message), limit_bytes=1 << 20) == message


@given(messages, st.data())
def test_a_damaged_message_is_malformed_or_another_well_formed_one(message: Message, data: st.DataObject) -> None:
    raw = bytearray(encode_message(message))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode_message(bytes(raw), limit_bytes=1 << 20)
    except Malformed:
        pass


def test_an_oversize_message_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Oversize):
        decode_message(b"\xc1" * 101, limit_bytes=100)


def test_a_vote_is_small_and_of_fixed_size() -> None:
    small = encode_message(Commit(0, 1, bytes(32), 0, bytes(32), 0, bytes(65)))
    large = encode_message(Commit(2**40, 2**40, bytes(32), 2**40, bytes(32), 99, bytes(65)))
    assert len(small) < 160 and len(large) < 190


def test_signed_bytes_differ_in_network_phase_view_sequence_digest_and_state() -> None:
    variants = itertools.product(
        (bytes(32), b"\1" * 32), (PRE_PREPARE, PREPARE, COMMIT), (0, 1), (1, 2), (bytes(32), b"\2" * 32), (0, 1),
        (bytes(32), b"\3" * 32),
    )  # fmt: skip
    digests = [vote_digest(*variant) for variant in variants]
    assert len(set(digests)) == len(digests) == 2 * 3 * 2 * 2 * 2 * 2 * 2


def test_a_batch_digest_binds_sequence_time_and_order() -> None:
    first, second = request_digest(b"a"), request_digest(b"b")
    variants = [
        (1, 5, [first, second]),
        (1, 5, [second, first]),
        (2, 5, [first, second]),
        (1, 6, [first, second]),
        (1, 5, []),
    ]
    assert len({batch_digest(*variant) for variant in variants}) == len(variants)
