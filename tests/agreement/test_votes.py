"""What a vote's signature covers is fixed: votes in logs, evidence and proofs are read by later releases."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from pot_lab.agreement import votes
from pot_lab.agreement.votes import COMMIT, PREPARE, SignedVote, vote_digest
from pot_lab.crypto.canonical import decode, encode, tagged_hash
from pot_lab.crypto.identity import BadSignature, Identity
from pot_lab.errors import Malformed

NETWORK, DIGEST, STATE = b"n" * 32, b"d" * 32, b"s" * 32
GOLDEN = "c80d9afc5034cb7c008bbef224ae5493c7e27aa664677447810c2c555d85d39f"
VOTER = Identity(b"\1" * 32)
FIELDS = {
    "phase": PREPARE, "view": 3, "sequence": 9, "digest": DIGEST, "executed": 8, "state": STATE, "signature": bytes(65)
}  # fmt: skip


def test_the_phases_have_the_numbers_that_signatures_cover() -> None:
    names = ("PRE_PREPARE", "PREPARE", "COMMIT", "VIEW_CHANGE", "NEW_VIEW", "CHECKPOINT", "RESULT")
    assert [getattr(votes, name) for name in names] == [1, 2, 3, 4, 5, 6, 7]


def test_the_digest_of_a_vote_is_the_one_that_it_always_was() -> None:
    digest = vote_digest(NETWORK, PREPARE, 3, 9, DIGEST, 8, STATE)
    head = b"\2" + (3).to_bytes(8, "big") + (9).to_bytes(8, "big")
    parts = (NETWORK, head, DIGEST, (8).to_bytes(8, "big"), STATE)
    assert digest == tagged_hash("pot-lab/consensus/vote/1", *parts)
    assert hashlib.sha256(digest).hexdigest() == GOLDEN


def test_every_field_changes_the_digest() -> None:
    usual = (NETWORK, PREPARE, 3, 9, DIGEST, 8, STATE)
    others = (b"m" * 32, COMMIT, 4, 10, b"e" * 32, 7, b"t" * 32)
    changed = {vote_digest(*usual[:i], other, *usual[i + 1 :]) for i, other in enumerate(others)}
    assert len(changed | {vote_digest(*usual)}) == len(usual) + 1


def test_the_signer_is_whoever_signed_and_a_recovery_of_the_callers_is_used() -> None:
    digest = vote_digest(NETWORK, PREPARE, 3, 9, DIGEST, 8, STATE)
    vote = SignedVote(**{**FIELDS, "signature": VOTER.sign(digest)})
    assert vote.signer(NETWORK) == VOTER.address
    asked: list[tuple[bytes, bytes]] = []

    def recover(digest: bytes, signature: bytes) -> bytes:
        asked.append((digest, signature))
        return b"a" * 20

    assert vote.signer(NETWORK, recover) == b"a" * 20 and asked == [(digest, vote.signature)]
    with pytest.raises(BadSignature):
        SignedVote(**{**FIELDS, "signature": b"\xff" * 65}).signer(NETWORK)


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("phase", [1, 7], [0, 8]),
        ("view", [0, 2**63 - 1], [-1, 2**63]),
        ("sequence", [0, 2**63 - 1], [-1, 2**63]),
        ("executed", [0, 2**63 - 1], [-1, 2**63]),
        ("digest", [bytes(32)], [bytes(31), bytes(33)]),
        ("state", [bytes(32)], [bytes(31), bytes(33)]),
        ("signature", [bytes(65)], [bytes(64), bytes(66)]),
    ],
)
def test_each_field_is_read_within_its_bounds(field: str, allowed: list, refused: list) -> None:
    def read(value: object) -> SignedVote:
        plain = tuple({**FIELDS, field: value}.values())
        return decode(msgspec.msgpack.encode(plain), SignedVote, limit_bytes=1_000)

    for value in allowed:
        assert getattr(read(value), field) == value
    for value in refused:
        with pytest.raises(Malformed):
            read(value)


def test_a_vote_survives_its_encoding_and_does_not_change() -> None:
    vote = SignedVote(**FIELDS)
    assert decode(encode(vote), SignedVote, limit_bytes=1_000) == vote
    with pytest.raises(AttributeError):
        vote.view = 4  # type: ignore[misc]
