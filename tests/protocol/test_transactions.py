"""Transactions: authenticated before anything else, size before shape, and their bodies held to their kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import BadSignature
from pot_lab.crypto.sealed_model import KeyBox, KeyBoxes
from pot_lab.errors import Malformed, Oversize, PotLabError
from pot_lab.protocol.errors import WrongNetwork
from pot_lab.protocol.transactions import (
    MAX_ITEMS,
    TRANSACTION_LIMIT_BYTES,
    Attest,
    Claim,
    CommitScores,
    OpenScores,
    Register,
    ReleaseKey,
    RevealModel,
    ScoreCommitment,
    Transaction,
    open_body,
    open_transaction,
    sign,
    transaction_digest,
)
from tests.protocol.test_chain_events import SHAPES
from tests.protocol.world import World, key, link

NETWORK, H = b"\x01" * 32, b"\x02" * 32
BOXES = KeyBoxes(H, (KeyBox(H, bytes(97)),) * 4)
ALICE, MALLORY = key("alice"), key("mallory")
REQUEST = sign(NETWORK, Claim(H, H), ALICE, 5)


def forged(**changes: object) -> bytes:
    """A transaction whose signature is right for its changed fields."""
    t = structs.replace(decode(REQUEST, Transaction, limit_bytes=10_000), **changes)
    digest = transaction_digest(t.network_id, t.kind, t.account, t.nonce & ((1 << 64) - 1), t.body)
    return encode(structs.replace(t, signature=ALICE.sign(digest)))


def test_a_signed_transaction_opens() -> None:
    transaction = open_transaction(REQUEST, NETWORK)
    assert (transaction.kind, transaction.account, transaction.nonce) == ("claim", ALICE.address, 5)
    assert open_body(transaction) == Claim(H, H)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b"", Malformed),
        (b"\xc0", Malformed),
        (REQUEST[:-1], Malformed),
        (REQUEST + b"\x00", Malformed),
        (b"\x00" * (TRANSACTION_LIMIT_BYTES + 1), Oversize),
        (sign(H, Claim(H, H), ALICE, 5), WrongNetwork),
        (forged(network_id=b""), WrongNetwork),
        (forged(kind=""), Malformed),
        (forged(kind="Claim"), Malformed),
        (forged(kind="c" * 33), Malformed),
        (forged(nonce=0), Malformed),
        (forged(nonce=-1), Malformed),
        (forged(nonce=1 << 63), Malformed),
        (forged(account=b""), Malformed),
        (forged(account=MALLORY.address), BadSignature),
        (encode(structs.replace(decode(REQUEST, Transaction, limit_bytes=10_000), nonce=6)), BadSignature),
        (encode(structs.replace(decode(REQUEST, Transaction, limit_bytes=10_000), kind="register")), BadSignature),
        (encode(structs.replace(decode(REQUEST, Transaction, limit_bytes=10_000), signature=b"")), BadSignature),
    ],
)
def test_what_its_account_did_not_say_is_refused(request_: bytes, error: type[PotLabError]) -> None:
    with pytest.raises(error):
        open_transaction(request_, NETWORK)


@given(st.integers(0, len(REQUEST) - 1), st.integers(1, 255))
def test_no_byte_of_a_transaction_can_be_changed_by_another(position: int, flip: int) -> None:
    raw = bytearray(REQUEST)
    raw[position] ^= flip
    with pytest.raises(PotLabError):
        open_transaction(bytes(raw), NETWORK)


SHORT = b"\x02" * 31
OPENED = SHAPES["staked"]


def bodies() -> list[tuple[str, bytes]]:
    """Bodies that are signed rightly and are none of their kind."""
    world = World()
    order_id, _ = world.start()
    opened = world.opened(order_id, ALICE, "model 0", 5)
    items = tuple(ScoreCommitment(bytes([i // 256, i % 256]) + bytes(30), H) for i in range(MAX_ITEMS + 1))
    return [
        ("claim", b""),
        ("claim", encode(Register(1))),
        ("claim", encode(Claim(SHORT, H))),
        ("claim", encode(Claim(H, H + b"\x00"))),
        ("claim", encode(Claim(H, b""))),
        ("release_key", encode(ReleaseKey(H, SHORT))),
        ("reveal_model", encode(RevealModel(order_id=H, mid=SHORT, ciphertext=link("x"), boxes=BOXES, salt=H))),
        (
            "reveal_model",
            encode(RevealModel(order_id=H, mid=H, ciphertext=link("x"), boxes=BOXES, salt=b"\x01" * 60_000)),
        ),
        ("commit_scores", encode(CommitScores(H, ()))),
        ("commit_scores", encode(CommitScores(H, items))),
        ("commit_scores", encode(CommitScores(H, (ScoreCommitment(SHORT, H),)))),
        ("commit_scores", encode(CommitScores(H, (ScoreCommitment(H, b"\x01" * 60_000),)))),
        ("open_scores", encode(OpenScores(H, ()))),
        *(
            ("open_scores", encode(OpenScores(H, (structs.replace(opened, **{name: b"\x01" * size}),))))
            for name in ("mid", "salt", "transcript_root")
            for size in (0, 31, 33, 60_000)
        ),
        ("attest", encode(Attest(0, ()))),
        ("attest", encode(Attest(0, (OPENED,) * (MAX_ITEMS + 1)))),
        ("register", encode(Register(1)) + b"\x00"),
        ("register", b"\x91\xcf" + b"\xff" * 8 + b"\x00"),
        ("put", b"\x91" * 5_000),
    ]


@pytest.mark.parametrize(("kind", "body"), bodies())
def test_a_body_that_is_not_its_kinds_is_refused_with_a_short_reply(kind: str, body: bytes) -> None:
    world = World()
    transaction = Transaction(
        network_id=world.network_id, kind=kind, account=ALICE.address, nonce=1, body=body, signature=b""
    )
    request = encode(structs.replace(transaction, signature=ALICE.sign(transaction.digest)))
    before = world.ledger.state.accounts
    (reply,) = world.ordered(request)
    assert reply.code == "Malformed"
    assert len(encode(reply)) < 2_000, "a reply is kept and repeated, so it must not be larger than what it refuses"
    assert ALICE.address not in before


def test_a_nonce_may_be_as_large_as_the_contract_of_an_order_can_hold() -> None:
    for nonce in (1, (1 << 63) - 1):
        assert open_transaction(sign(NETWORK, Claim(H, H), ALICE, nonce), NETWORK).nonce == nonce
    for nonce in (0, 1 << 63):
        with pytest.raises(Malformed, match="nonce"):
            open_transaction(sign(NETWORK, Claim(H, H), ALICE, nonce), NETWORK)


def test_the_largest_transaction_is_an_order_with_its_envelope() -> None:
    assert TRANSACTION_LIMIT_BYTES == 65_536 + 512
    for size_bytes, refusal in ((TRANSACTION_LIMIT_BYTES, Malformed), (TRANSACTION_LIMIT_BYTES + 1, Oversize)):
        with pytest.raises(refusal):
            open_transaction(bytes(size_bytes), NETWORK)
