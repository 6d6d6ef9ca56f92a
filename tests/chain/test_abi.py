"""The ABI as web3 encodes it is the ABI that the ledger's own words write, and bytes that no contract would return are
refused.
"""

from __future__ import annotations

import pytest
from eth_account.messages import SignableMessage, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.chain.abi import decode, encode
from pot_lab.chain.contract import artifacts, interface
from pot_lab.crypto.canonical import keccak256
from pot_lab.errors import Malformed
from pot_lab.protocol.records import order_id
from pot_lab.protocol.settlement import (
    NotEncodable,
    Settlement,
    abi_word_address,
    abi_word_bytes32,
    abi_word_uint,
    orders_hash,
    reward_leaf,
    rotation_digest,
    settlement_digest,
    slash_leaf,
)

word = st.binary(min_size=32, max_size=32)
address = st.binary(min_size=20, max_size=20)
uint64 = st.integers(0, 2**64 - 1)
grains = st.integers(0, 2**128 - 1)

_SETTLEMENT = {
    "Settlement": [
        {"name": "epoch", "type": "uint64"},
        {"name": "round", "type": "uint64"},
        {"name": "signerSetId", "type": "uint64"},
        {"name": "root", "type": "bytes32"},
        {"name": "cumulativeTotal", "type": "uint128"},
        {"name": "ordersHash", "type": "bytes32"},
        {"name": "ledgerHash", "type": "bytes32"},
    ]
}
_ROTATION = {
    "Rotation": [
        {"name": "newSetId", "type": "uint64"},
        {"name": "threshold", "type": "uint64"},
        {"name": "stakers", "type": "address[]"},
    ]
}


def digest_of(message: SignableMessage) -> bytes:
    return keccak256(b"\x19" + message.version + message.header + message.body)


def domain(chain_id: int, contract: bytes) -> dict[str, object]:
    return {"name": "PoT Settlement", "version": "1", "chainId": chain_id, "verifyingContract": contract}


@given(st.integers(0, 2**256 - 1), address, word)
def test_the_ledgers_words_are_those_of_the_library(number: int, account: bytes, value: bytes) -> None:
    assert abi_word_uint(number) == encode(["uint256"], [number])
    assert abi_word_address(account) == encode(["address"], [account])
    assert abi_word_bytes32(value) == encode(["bytes32"], [value])
    assert decode(
        ["uint256", "address", "bytes32"], encode(["uint256", "address", "bytes32"], [number, account, value])
    )


@given(address, uint64, uint64, word)
def test_an_orders_id_is_that_of_the_library(client: bytes, nonce: int, seal_by_s: int, spec: bytes) -> None:
    packed = encode(["address", "uint64", "uint64", "bytes32"], [client, nonce, seal_by_s, spec])
    assert order_id(client, nonce, seal_by_s, spec) == keccak256(packed)  # type: ignore[arg-type]


@given(address, st.integers(0, 3), grains, address, st.lists(word, max_size=4))
def test_leaves_and_order_lists_are_those_of_the_library(
    account: bytes, role: int, total: int, to: bytes, orders: list[bytes]
) -> None:
    pays = encode(["uint8", "address", "uint256"], [0, account, total])
    takes = encode(["uint8", "address", "uint256", "address"], [1 + role, account, total, to])
    assert reward_leaf(account, total) == keccak256(keccak256(pays))
    assert slash_leaf(account, role, total, to) == keccak256(keccak256(takes))
    assert orders_hash(orders) == keccak256(b"".join(encode(["bytes32"], [each]) for each in orders))


@given(st.integers(1, 2**63), address, uint64, uint64, uint64, word, grains, word, word)
def test_a_settlements_digest_is_that_of_the_library(
    chain_id: int,
    contract: bytes,
    epoch: int,
    round_: int,
    set_id: int,
    root: bytes,
    total: int,
    orders: bytes,
    ledger: bytes,
) -> None:
    settlement = Settlement(
        epoch=epoch,
        round=round_,
        signer_set_id=set_id,
        root=root,
        cumulative_total=total,
        orders_hash=orders,
        ledger_hash=ledger,
    )
    names = [field["name"] for field in _SETTLEMENT["Settlement"]]
    values = dict(zip(names, (epoch, round_, set_id, root, total, orders, ledger), strict=True))
    typed = encode_typed_data(domain(chain_id, contract), _SETTLEMENT, values)
    assert settlement_digest(chain_id, contract, settlement) == digest_of(typed)


@given(st.integers(1, 2**63), address, uint64, uint64, st.lists(address, max_size=5))
def test_a_rotations_digest_is_that_of_the_library(
    chain_id: int, contract: bytes, set_id: int, threshold: int, stakers: list[bytes]
) -> None:
    values = {"newSetId": set_id, "threshold": threshold, "stakers": stakers}
    typed = encode_typed_data(domain(chain_id, contract), _ROTATION, values)
    assert rotation_digest(chain_id, contract, set_id, threshold, stakers) == digest_of(typed)


TYPES = ["uint64", "address", "bytes32[]", "(address,uint96)[]", "bytes", "string", "bool", "uint8[2]"]
values = st.tuples(
    uint64,
    address,
    st.lists(word, max_size=3).map(tuple),
    st.lists(st.tuples(address, st.integers(0, 2**96 - 1)), max_size=3).map(tuple),
    st.binary(max_size=70),
    st.text(max_size=40),
    st.booleans(),
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
)


@given(values)
def test_what_is_encoded_comes_back_with_addresses_as_bytes(row: tuple[object, ...]) -> None:
    assert decode(TYPES, encode(TYPES, row)) == row


@given(values, st.data())
def test_damaged_data_is_refused_or_read_but_never_crashes(row: tuple[object, ...], data: st.DataObject) -> None:
    encoded = bytearray(encode(TYPES, row))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(encoded), bytes(encoded[: data.draw(st.integers(0, len(encoded)))])):
        try:
            decode(TYPES, damaged)
        except Malformed:
            pass


@pytest.mark.parametrize("type_", ["bytes", "string", "uint8[]", "bytes32[]", "(address,uint96)[]", "bytes[]"])
@pytest.mark.parametrize("count", [1, 2**31, 2**255])
def test_a_claimed_length_costs_nothing(type_: str, count: int) -> None:
    data = (32).to_bytes(32, "big") + count.to_bytes(32, "big")
    with pytest.raises(Malformed):
        decode([type_], data)


def test_no_type_of_our_contracts_has_items_without_a_size() -> None:
    """Such an array's claimed length alone would cost time and memory."""
    assert not [name for name in artifacts()["contracts"] if "[0]" in str(artifacts()["contracts"][name]["abi"])]


@pytest.mark.parametrize(
    ("types", "values"),
    [
        (["uint8"], [256]),
        (["uint64"], [-1]),
        (["uint64"], [True]),
        (["address"], [b"\1" * 19]),
        (["bytes32"], [b"\1" * 33]),
        (["bytes32"], [b"\1" * 31]),
        (["uint8[2]"], [[1]]),
        (["uint8", "uint8"], [1]),
        (["nothing"], [1]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(types: list[str], values: list[object]) -> None:
    with pytest.raises(NotEncodable):
        encode(types, values)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("uint8", (256).to_bytes(32, "big")),
        ("bool", (2).to_bytes(32, "big")),
        ("address", b"\1" * 32),
        ("bytes4", b"\1" * 32),
        ("uint256", b"\1" * 31),
        ("string", (32).to_bytes(32, "big") + (2).to_bytes(32, "big") + b"\xff\xfe".ljust(32, b"\0")),
    ],
)
def test_a_word_that_is_wider_than_its_type_is_refused(type_: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        decode([type_], data)


def test_selectors_are_those_of_the_standards() -> None:
    token, settlement = interface("PoTToken"), interface("RewardSettlement")
    assert token.functions["transfer"].selector.hex() == "a9059cbb"
    assert token.events["Transfer"].topic.hex() == "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    assert settlement.functions["settle"].inputs == (
        "(uint64,uint64,uint64,bytes32,uint128,bytes32,bytes32)",
        "bytes32[]",
        "uint256",
        "bytes",
    )
