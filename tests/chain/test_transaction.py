"""A signed transaction says what was asked for, and is its account's."""

from __future__ import annotations

from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.chain.transaction import ChainTransaction
from pot_lab.crypto.identity import Identity, format_address
from tests.chain.world import created_address


@given(
    st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big")),
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
def test_a_signed_transaction_says_what_was_asked_for(secret: bytes, transaction: ChainTransaction) -> None:
    identity = Identity(secret)
    raw = transaction.sign(identity)
    assert Account.recover_transaction(raw) == format_address(identity.address)
    said = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    assert (said["chainId"], said["nonce"], said["gas"]) == (transaction.chain_id, transaction.nonce, transaction.gas)
    assert (said["maxFeePerGas"], said["maxPriorityFeePerGas"]) == (transaction.max_fee, transaction.max_priority_fee)
    assert (bytes(said["to"]), bytes(said["data"])) == (transaction.to, transaction.data)
    assert said["value"] == transaction.value and said["accessList"] in ([], ())


def test_the_address_of_a_new_contract_is_known_beforehand() -> None:
    # The first contract of the first account of the well-known test mnemonic.
    sender = bytes.fromhex("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
    assert format_address(created_address(sender, 0)) == "0x5FbDB2315678afecb367f032d93F642f64180aa3"
