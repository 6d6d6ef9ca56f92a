"""Two contradicting signed votes convict their signer, and nothing less does."""

import pytest

from pot_lab.agreement.evidence import Equivocation, NoEquivocation
from pot_lab.agreement.votes import COMMIT, PREPARE, SignedVote, vote_digest
from pot_lab.consensus.messages import Prepare, PrePrepare, batch_digest, request_digest, signed_vote
from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import BadSignature, Identity

NETWORK = b"n" * 32
LIAR, OTHER = Identity(b"\1" * 32), Identity(b"\2" * 32)


def vote(
    identity: Identity, digest: bytes, phase: int = PREPARE, sequence: int = 3, state: bytes = bytes(32)
) -> SignedVote:
    signature = identity.sign(vote_digest(NETWORK, phase, 0, sequence, digest, 2, state))
    return SignedVote(phase, 0, sequence, digest, 2, state, signature)


def test_two_digests_for_one_step_convict_the_signer_even_after_the_wire() -> None:
    evidence = Equivocation(vote(LIAR, b"a" * 32), vote(LIAR, b"b" * 32))
    assert decode(encode(evidence), Equivocation, limit_bytes=1_000).accused(NETWORK) == LIAR.address


@pytest.mark.parametrize(
    "second",
    [
        vote(LIAR, b"a" * 32, state=b"s" * 32),
        vote(LIAR, b"b" * 32, phase=COMMIT),
        vote(LIAR, b"b" * 32, sequence=4),
        vote(OTHER, b"b" * 32),
    ],
    ids=["same batch", "other phase", "other sequence", "other signer"],
)
def test_votes_that_an_honest_replica_may_sign_convict_nobody(second: SignedVote) -> None:
    with pytest.raises(NoEquivocation):
        Equivocation(vote(LIAR, b"a" * 32), second).accused(NETWORK)


def test_evidence_of_another_network_or_a_broken_signature_convicts_nobody() -> None:
    evidence = Equivocation(vote(LIAR, b"a" * 32), vote(LIAR, b"b" * 32))
    with pytest.raises(NoEquivocation):
        evidence.accused(b"m" * 32)
    broken = SignedVote(PREPARE, 0, 3, b"b" * 32, 2, bytes(32), b"\xff" * 65)
    with pytest.raises(BadSignature):
        Equivocation(evidence.first, broken).accused(NETWORK)


def test_a_proposal_is_reduced_to_what_its_signature_covers() -> None:
    digests = (request_digest(b"x"),)
    digest = batch_digest(3, 77, digests)
    signature = LIAR.sign(vote_digest(NETWORK, 1, 0, 3, digest, 2, bytes(32)))
    proposal = PrePrepare(0, 3, 77, digests, (b"x",), 2, bytes(32), signature)
    assert signed_vote(proposal).signer(NETWORK) == LIAR.address
    prepare = Prepare(0, 3, digest, 2, bytes(32), 1, vote(LIAR, digest).signature)
    assert signed_vote(prepare).signer(NETWORK) == LIAR.address
