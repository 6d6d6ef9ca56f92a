"""Transactions are signed as `eth_account` signs them."""

from __future__ import annotations

import rlp as reference_rlp
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.chain.transaction import ChainTransaction, created_address, rlp
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity, format_address

secrets = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))
items = st.recursive(st.binary(max_size=300) | st.integers(0, 2**256 - 1), lambda inner: st.lists(inner, max_size=6))


@given(items)
def test_rlp_equals_the_reference(item: object) -> None:
    assert rlp(item) == reference_rlp.encode(item)  # type: ignore[arg-type]


@given(
    secrets,
    st.builds(
        ChainTransaction,
        chain_id=st.integers(1, 2**53),
        nonce=st.integers(0, 2**32),
        max_priority_fee=st.integers(0, 2**40),
        max_fee=st.integers(0, 2**40),
        gas=st.integers(21_000, 2**24),
        to=st.binary(min_size=20, max_size=20) | st.just(b""),
        data=st.binary(max_size=300),
        value=st.integers(0, 2**70),
    ),
)
def test_a_signed_transaction_equals_the_reference(secret: bytes, transaction: ChainTransaction) -> None:
    fields = {
        "type": 2,
        "chainId": transaction.chain_id,
        "nonce": transaction.nonce,
        "maxPriorityFeePerGas": transaction.max_priority_fee,
        "maxFeePerGas": transaction.max_fee,
        "gas": transaction.gas,
        "data": transaction.data,
        "value": transaction.value,
    } | ({"to": format_address(transaction.to)} if transaction.to else {})
    expected = Account.sign_transaction(fields, secret)
    raw = transaction.sign(Identity(secret))
    assert raw == expected.raw_transaction
    assert keccak256(raw) == expected.hash


def test_the_address_of_a_new_contract_is_known_beforehand() -> None:
    # The first contract of the first account of the well-known test mnemonic.
    sender = bytes.fromhex("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
    assert format_address(created_address(sender, 0)) == "0x5FbDB2315678afecb367f032d93F642f64180aa3"
