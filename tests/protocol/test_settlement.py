"""Settlement bytes: checked against the published EIP-712 and OpenZeppelin encodings through independent libraries."""

from __future__ import annotations

import pytest
from eth_abi import encode as abi_encode
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pot_lab.crypto.canonical import decode, encode, keccak256
from pot_lab.crypto.identity import format_address
from pot_lab.protocol.settlement import (
    EMPTY_ROOT,
    BadLeaf,
    NotEncodable,
    PayoutTree,
    Settlement,
    abi_word_address,
    abi_word_bytes32,
    abi_word_uint,
    orders_hash,
    reward_leaf,
    settlement_digest,
    slash_leaf,
    verify_proof,
)

address = st.binary(min_size=20, max_size=20)
word = st.binary(min_size=32, max_size=32)
settlements = st.builds(
    Settlement,
    epoch=st.integers(0, 2**64 - 1),
    round=st.integers(0, 2**64 - 1),
    signer_set_id=st.integers(0, 2**64 - 1),
    root=word,
    cumulative_total=st.integers(0, 2**128 - 1),
    orders_hash=word,
    ledger_hash=word,
)

_FIELDS = [
    ("epoch", "uint64"),
    ("round", "uint64"),
    ("signerSetId", "uint64"),
    ("root", "bytes32"),
    ("cumulativeTotal", "uint128"),
    ("ordersHash", "bytes32"),
    ("ledgerHash", "bytes32"),
]


@given(settlements, st.integers(0, 2**64 - 1), address)
def test_digest_is_what_a_general_eip712_library_computes(
    settlement: Settlement, chain_id: int, contract: bytes
) -> None:
    values = [getattr(settlement, name) for name in settlement.__struct_fields__]
    message = encode_typed_data(
        {"name": "PoT Settlement", "version": "1", "chainId": chain_id, "verifyingContract": format_address(contract)},
        {"Settlement": [{"name": name, "type": type_} for name, type_ in _FIELDS]},
        dict(zip([name for name, _ in _FIELDS], values, strict=True)),
    )
    assert settlement_digest(chain_id, contract, settlement) == bytes(_hash_eip191_message(message))


@given(settlements, st.integers(0, 2**64 - 1))
def test_a_settlement_survives_its_canonical_bytes(settlement: Settlement, total: int) -> None:
    settlement = structs.replace(settlement, cumulative_total=total)
    assert decode(encode(settlement), Settlement, limit_bytes=1_000) == settlement


@given(address, st.integers(0, 2**256 - 1), st.integers(0, 3), address)
def test_leaves_are_double_hashed_abi_encodings(account: bytes, amount: int, role: int, to: bytes) -> None:
    expected = abi_encode(["uint8", "address", "uint256"], [0, account, amount])
    assert reward_leaf(account, amount) == keccak256(keccak256(expected))
    expected = abi_encode(["uint8", "address", "uint256", "address"], [1 + role, account, amount, to])
    assert slash_leaf(account, role, amount, to) == keccak256(keccak256(expected))


@given(address, st.integers(0, 2**64 - 1), word)
def test_words_in_a_row_are_the_abi_encoding_of_static_types(account: bytes, number: int, value: bytes) -> None:
    words = abi_word_address(account) + abi_word_uint(number, 64) + abi_word_bytes32(value)
    assert words == abi_encode(["address", "uint64", "bytes32"], [account, number, value])


@given(st.sets(word, min_size=1, max_size=40))
def test_every_leaf_has_a_proof_and_no_other_value_has(leaves: set[bytes]) -> None:
    tree = PayoutTree(leaves)
    for leaf in leaves:
        proof = tree.proof(leaf)
        assert verify_proof(tree.root, leaf, proof)
        assert not verify_proof(tree.root, keccak256(leaf), proof)
        assert len(proof) <= (len(leaves) - 1).bit_length()


@given(st.lists(word, min_size=2, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_the_root_does_not_depend_on_the_order_of_leaves_but_on_each_of_them(
    leaves: list[bytes], random: object
) -> None:
    shuffled = list(leaves)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert PayoutTree(shuffled).root == PayoutTree(leaves).root
    assert PayoutTree(leaves[1:]).root != PayoutTree(leaves).root
    assert PayoutTree([keccak256(leaves[0]), *leaves[1:]]).root != PayoutTree(leaves).root


def _process_multiproof(leaves: list[bytes], siblings: list[bytes], flags: list[bool]) -> bytes:
    """OpenZeppelin's `MerkleProof.processMultiProof`, transcribed as the specification of what the contract does."""
    pending, hashes, rest = list(leaves), [], list(siblings)
    for flag in flags:
        a = pending.pop(0) if pending else hashes.pop(0)
        b = (pending.pop(0) if pending else hashes.pop(0)) if flag else rest.pop(0)
        hashes.append(keccak256(min(a, b) + max(a, b)))
    assert not rest
    return hashes[-1] if hashes else leaves[0]


@given(st.data(), st.lists(word, min_size=1, max_size=40, unique=True))
def test_a_multiproof_leads_from_any_subset_to_the_root(data: st.DataObject, leaves: list[bytes]) -> None:
    tree = PayoutTree(leaves)
    subset = data.draw(st.lists(st.sampled_from(leaves), min_size=1, unique=True))
    ordered, siblings, flags = tree.multiproof(subset)
    assert sorted(ordered) == sorted(subset)
    assert len(flags) == len(ordered) + len(siblings) - 1
    assert _process_multiproof(ordered, siblings, flags) == tree.root


def test_a_known_tree_of_openzeppelin() -> None:
    # Golden: `StandardMerkleTree.of([[a1, 5e18], [a2, 2.5e18]], ["address", "uint256"])` from the README of
    # @openzeppelin/merkle-tree, whose leaves are double-hashed ABI encodings like ours.
    values = [(b"\x11" * 20, 5 * 10**18), (b"\x22" * 20, 25 * 10**17)]
    leaves = [keccak256(keccak256(abi_encode(["address", "uint256"], value))) for value in values]
    assert PayoutTree(leaves).root.hex() == "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


def test_an_empty_tree_has_the_contracts_initial_root_and_proves_nothing() -> None:
    tree = PayoutTree([])
    assert tree.root == EMPTY_ROOT == bytes(32)
    assert len(tree) == 0
    with pytest.raises(BadLeaf):
        tree.proof(reward_leaf(b"\1" * 20, 1))
    assert not verify_proof(tree.root, reward_leaf(b"\1" * 20, 1), [])


def test_a_duplicate_short_or_unknown_leaf_is_refused() -> None:
    leaf = reward_leaf(b"\1" * 20, 7)
    for leaves in ([leaf, leaf], [leaf[:31]]):
        with pytest.raises(BadLeaf):
            PayoutTree(leaves)
    tree = PayoutTree([leaf, reward_leaf(b"\2" * 20, 7)])
    for subset in ([], [leaf, leaf], [keccak256(leaf)]):
        with pytest.raises(BadLeaf):
            tree.multiproof(subset)


@pytest.mark.parametrize(
    "encoding",
    [
        lambda: abi_word_uint(-1),
        lambda: abi_word_uint(2**64, 64),
        lambda: abi_word_address(b"\1" * 21),
        lambda: abi_word_bytes32(b"\1" * 31),
        lambda: orders_hash([b"\1" * 31]),
        lambda: reward_leaf(b"\1" * 20, 2**256),
        lambda: slash_leaf(b"\1" * 20, 4, 1, bytes(20)),
    ],
)
def test_a_value_outside_its_type_is_refused_and_named(encoding) -> None:
    with pytest.raises(NotEncodable, match=r"seen: .*wanted: "):
        encoding()


def test_a_signature_is_bound_to_chain_and_contract() -> None:
    settlement = Settlement(
        epoch=1,
        round=0,
        signer_set_id=1,
        root=bytes(32),
        cumulative_total=5,
        orders_hash=orders_hash([]),
        ledger_hash=bytes(32),
    )
    digests = {
        settlement_digest(chain, contract, settlement) for chain in (1, 2) for contract in (b"\1" * 20, b"\2" * 20)
    }
    assert len(digests) == 4
