"""Merkle and Merkle-sum trees: every leaf has one proof, and no change of anything passes."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.merkle import BadTree, MerkleProof, SumNode, SumProof, SumTree, merkle_proof, merkle_root

LIMIT = 1 << 127
SIZES = range(1, 41)
leaf_lists = st.lists(st.binary(max_size=40), min_size=1, max_size=40)
value_lists = st.lists(st.integers(-(1 << 70), 1 << 70), min_size=1, max_size=40)


def leaves_of(size: int) -> list[bytes]:
    return [b"leaf %d" % i for i in range(size)]


def values_of(size: int) -> list[int]:
    return [(i * 37) % 101 - 50 for i in range(size)]


def changed_proofs(proof: MerkleProof) -> Iterator[MerkleProof]:
    yield structs.replace(proof, count=proof.count + 1)
    yield structs.replace(proof, count=proof.count - 1)
    for index in (*range(proof.count), -1, proof.count, 1 << 64):
        if index != proof.index:
            yield structs.replace(proof, index=index)
    for i, sibling in enumerate(proof.siblings):
        rest = proof.siblings[:i], proof.siblings[i + 1 :]
        yield structs.replace(proof, siblings=rest[0] + rest[1])
        yield structs.replace(proof, siblings=(*rest[0], sibling[:-1] + bytes([sibling[-1] ^ 1]), *rest[1]))
        yield structs.replace(proof, siblings=(*rest[0], sibling[:-1], *rest[1]))
    yield structs.replace(proof, siblings=(*proof.siblings, bytes(32)))


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_is_proved_and_nothing_else_is(size: int) -> None:
    leaves = leaves_of(size)
    root = merkle_root(leaves)
    for index, leaf in enumerate(leaves):
        proof = merkle_proof(leaves, index)
        assert proof.verify(root, leaf)
        assert not proof.verify(root, leaf + b"x")
        assert not proof.verify(root[:-1] + bytes([root[-1] ^ 1]), leaf)
        assert not any(changed.verify(root, leaf) for changed in changed_proofs(proof))


@given(leaf_lists, st.data())
def test_a_root_changes_with_any_leaf_and_their_number(leaves: list[bytes], data: st.DataObject) -> None:
    root, i = merkle_root(leaves), data.draw(st.integers(0, len(leaves) - 1))
    assert merkle_root([*leaves[:i], leaves[i] + b"x", *leaves[i + 1 :]]) != root
    assert merkle_root([*leaves, leaves[-1]]) != root
    assert merkle_proof(leaves, i).verify(root, leaves[i])


def test_an_inner_node_is_no_leaf() -> None:
    leaves = leaves_of(4)
    hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    inner = b"\x01" + hashes[0] + hashes[1]
    right = hashlib.sha256(b"\x01" + hashes[2] + hashes[3]).digest()
    for count in (2, 4):
        assert not MerkleProof(0, count, (right,)).verify(merkle_root(leaves), inner)
        assert not MerkleProof(0, count, (right,)).verify(merkle_root(leaves), inner[1:])


def changed_sum_proofs(proof: SumProof) -> Iterator[SumProof]:
    yield structs.replace(proof, count=proof.count + 1)
    yield structs.replace(proof, count=proof.count - 1)
    yield structs.replace(proof, count=-1)
    for index in (*range(proof.count), -1, proof.count, 1 << 63, (1 << 64) - 1):
        if index != proof.index:
            yield structs.replace(proof, index=index)
    for i, sibling in enumerate(proof.siblings):
        rest = proof.siblings[:i], proof.siblings[i + 1 :]
        for other in (
            SumNode(sibling.hash, sibling.total + 1),
            SumNode(sibling.hash[:-1] + bytes([sibling.hash[-1] ^ 1]), sibling.total),
            SumNode(sibling.hash + b"\x00", sibling.total),
            SumNode(sibling.hash, LIMIT),
            SumNode(sibling.hash, LIMIT - 1),
        ):
            yield structs.replace(proof, siblings=(*rest[0], other, *rest[1]))
        yield structs.replace(proof, siblings=rest[0] + rest[1])
    yield structs.replace(proof, siblings=(*proof.siblings, SumNode(bytes(32), 0)))


@pytest.mark.parametrize("size", SIZES)
def test_every_value_is_proved_with_the_total_and_nothing_else_is(size: int) -> None:
    values = values_of(size)
    tree = SumTree(values)
    assert (tree.total, tree.count) == (sum(values), size)
    for index, value in enumerate(values):
        proof = tree.proof(index)
        assert proof.verify(tree.root, tree.total, value)
        assert not proof.verify(tree.root, tree.total, value + 1)
        assert not proof.verify(tree.root, tree.total + 1, value)
        assert not proof.verify(tree.root[:-1] + bytes([tree.root[-1] ^ 1]), tree.total, value)
        assert not any(changed.verify(tree.root, tree.total, value) for changed in changed_sum_proofs(proof))


@given(value_lists, st.data())
def test_values_that_add_up_to_the_same_give_another_root(values: list[int], data: st.DataObject) -> None:
    tree = SumTree(values)
    i, j = data.draw(st.integers(0, len(values) - 1)), data.draw(st.integers(0, len(values) - 1))
    moved = list(values)
    moved[i] += 1
    moved[j] -= 1
    assert SumTree(moved).total == tree.total
    assert (SumTree(moved).root == tree.root) == (i == j)


@given(
    st.integers(-LIMIT, LIMIT * 2),
    st.integers(-LIMIT * 2, LIMIT * 2),
    st.integers(-5, 1 << 65),
    st.integers(-5, 1 << 65),
)
def test_verifying_numbers_from_a_stranger_answers_and_never_raises(
    value: int, total: int, index: int, count: int
) -> None:
    tree = SumTree([1, 2, 3])
    siblings = tree.proof(0).siblings
    assert not SumProof(index, count, (SumNode(b"", value), *siblings)).verify(tree.root, total, value)
    assert not MerkleProof(index, count, (b"", b"x")).verify(tree.root, b"leaf")


def test_a_huge_claimed_tree_costs_no_huge_work() -> None:
    assert not MerkleProof(0, 1 << 62, tuple(bytes(32) for _ in range(62))).verify(bytes(32), b"leaf")


def test_proofs_of_one_kind_of_tree_are_nothing_in_another() -> None:
    leaf_root, sum_root = merkle_root([b"leaf"]), SumTree([5]).root
    assert leaf_root != sum_root
    top = hashlib.sha256(b"\x00leaf").digest()
    assert leaf_root == tagged_hash("pot-lab/merkle/root/1", (1).to_bytes(8, "big"), top)
    sum_leaf = b"\x02" + (0).to_bytes(8, "big") + (5).to_bytes(16, "big", signed=True)
    assert not MerkleProof(0, 1, ()).verify(sum_root, sum_leaf)
    assert not SumProof(0, 1, ()).verify(leaf_root, 5, 5)


def test_known_roots() -> None:
    assert merkle_root([b"a", b"b", b"c"]).hex() == "e128564e5908c2de83ede0af94a172f432e6ebf5460c601d6c05d5905aa4ba89"
    assert SumTree([1, 0, -2]).root.hex() == "c160ee3e7f3c3fd4ab077c25538658e5c04aead38cb95fa17b1f98dc626354a5"


@pytest.mark.parametrize("values", [[], [LIMIT], [-LIMIT - 1], [LIMIT - 1, 1], [LIMIT - 1, 1, -1]])
def test_values_that_do_not_fit_are_refused(values: list[int]) -> None:
    with pytest.raises(BadTree):
        SumTree(values)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(BadTree):
        merkle_proof(leaves_of(3), index)
    with pytest.raises(BadTree):
        SumTree([1, 2, 3]).proof(index)


def test_a_tree_needs_a_leaf() -> None:
    with pytest.raises(BadTree):
        merkle_root([])


@pytest.mark.parametrize("size", [1023, 1024, 1025, 2048, 2049, 5121])
def test_a_large_sum_tree_keeps_few_nodes_and_proves_every_leaf(size: int) -> None:
    values = array("q", values_of(size))
    tree = SumTree(values)
    assert (tree.total, tree.count) == (sum(values), size)
    for index in {0, 1022, min(1024, size - 1), size // 2, size - 2, size - 1}:
        assert tree.proof(index).verify(tree.root, tree.total, values[index])
        assert not tree.proof(index).verify(tree.root, tree.total, values[index] + 1)
    for index in (-1, size):
        with pytest.raises(BadTree, match="no such leaf"):
            tree.proof(index)


def test_a_large_sum_tree_has_the_root_it_always_had() -> None:
    root = "f6dd599ff06969718235088e1a4bb2af869e2965d96b8bf7ef85694b8b876823"
    assert SumTree(values_of(5121)).root.hex() == root


# --- the bounds of what a proof may claim ----------------------------------------------------------------------------
def sum_leaf(index: int, value: int) -> bytes:
    return hashlib.sha256(b"\x02" + index.to_bytes(8, "big") + value.to_bytes(16, "big", signed=True)).digest()


def first_of(count: int, value: int, siblings: list[SumNode]) -> tuple[SumProof, bytes, int]:
    """A proof that `value` is the first of `count` values, with its root and total, by a second implementation."""
    top, total = sum_leaf(0, value), value
    for sibling in siblings:
        left, right = total.to_bytes(16, "big", signed=True), sibling.total.to_bytes(16, "big", signed=True)
        top, total = hashlib.sha256(b"\x03" + top + left + sibling.hash + right).digest(), total + sibling.total
    bound = count.to_bytes(8, "big"), total.to_bytes(16, "big", signed=True), top
    return SumProof(0, count, tuple(siblings)), tagged_hash("pot-lab/merkle-sum/root/1", *bound), total


@pytest.mark.parametrize(("count", "accepted"), [((1 << 40) - 1, True), (1 << 40, False)])
def test_a_tree_has_fewer_than_2_to_the_40_leaves(count: int, accepted: bool) -> None:
    proof, root, total = first_of(count, 5, [SumNode(bytes(32), 0)] * 40)
    assert proof.verify(root, total, 5) is accepted
    top = hashlib.sha256(b"\x00leaf").digest()
    for _ in range(40):
        top = hashlib.sha256(b"\x01" + top + bytes(32)).digest()
    root = tagged_hash("pot-lab/merkle/root/1", count.to_bytes(8, "big"), top)
    assert MerkleProof(0, count, (bytes(32),) * 40).verify(root, b"leaf") is accepted


@pytest.mark.parametrize("value", [-LIMIT, LIMIT - 1])
def test_values_and_totals_of_signed_128_bits_are_proved(value: int) -> None:
    proof, root, total = first_of(2, value, [SumNode(bytes(32), 0)])
    assert proof.verify(root, total, value)
    proof, root, total = first_of(2, 0, [SumNode(bytes(32), value)])
    assert proof.verify(root, total, 0)
    assert SumTree([value]).total == value


@pytest.mark.parametrize("value", [-LIMIT - 1, LIMIT, 1 << 200])
def test_values_and_totals_beyond_are_refused_and_nothing_is_raised(value: int) -> None:
    proof, root, total = first_of(2, 0, [SumNode(bytes(32), 0)])
    assert not proof.verify(root, total, value)
    assert not SumProof(0, 2, (SumNode(bytes(32), value),)).verify(root, total, 0)
    assert not proof.verify(root, value, 0)


@pytest.mark.parametrize(("one", "two"), [(LIMIT - 1, 1), (-LIMIT, -1)])
def test_a_sum_that_overflows_is_refused_and_nothing_is_raised(one: int, two: int) -> None:
    _, root, _ = first_of(2, 0, [SumNode(bytes(32), 0)])
    assert not SumProof(0, 2, (SumNode(bytes(32), one),)).verify(root, one + two, two)
