"""The records of a measuring network: real signatures, Table 3's sizes, nonces that grow."""

from __future__ import annotations

import pytest

from pot_lab.agreement.application import Batch
from pot_lab.bench.records import (
    CHALLENGE_BYTES,
    ORDER_BYTES,
    VALIDATION_BYTES,
    RecordPool,
    UnknownQuestion,
    signed_record,
)
from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.identity import BadSignature, Identity
from pot_lab.errors import Malformed

NETWORK = sha256(b"measured")
ALICE, BOB = Identity(sha256(b"alice")), Identity(sha256(b"bob"))


@pytest.mark.parametrize("size_bytes", [ORDER_BYTES, VALIDATION_BYTES, CHALLENGE_BYTES])
def test_a_record_has_the_papers_size_and_names_its_account(size_bytes: int) -> None:
    record = signed_record(NETWORK, ALICE, 7, size_bytes)
    assert len(record) == size_bytes
    admitted = RecordPool(NETWORK).validate(record)
    assert (admitted.account, admitted.nonce) == (ALICE.address, 7)


def test_what_its_account_did_not_sign_for_this_network_is_refused() -> None:
    pool, record = RecordPool(NETWORK), signed_record(NETWORK, ALICE, 1, ORDER_BYTES)
    pool.validate(record)
    with pytest.raises(BadSignature):
        pool.validate(record[:-1] + bytes([record[-1] ^ 1]))
    with pytest.raises(BadSignature):
        pool.validate(record[:65] + BOB.address + record[85:])
    with pytest.raises(BadSignature):
        RecordPool(sha256(b"another")).validate(record)
    with pytest.raises(Malformed):
        pool.validate(record + b"\0")


def test_nonces_grow_and_equal_histories_give_equal_states() -> None:
    one, two = RecordPool(NETWORK), RecordPool(NETWORK)
    first, second = (signed_record(NETWORK, ALICE, nonce, ORDER_BYTES) for nonce in (1, 2))
    batch = Batch(1, 1_000, (second, first))
    done = one.execute(batch)
    assert done.replies == (b"1", b"refused: nonce") and len(done.events) == 1
    assert two.execute(batch) == done and one.query("count", b"") == b"1"
    with pytest.raises(UnknownQuestion):
        one.query("total", b"")
    two.restore(one.snapshot())
    after = Batch(2, 2_000, (first, signed_record(NETWORK, BOB, 1, VALIDATION_BYTES)))
    assert one.execute(after) == two.execute(after) and one.snapshot() == two.snapshot()
