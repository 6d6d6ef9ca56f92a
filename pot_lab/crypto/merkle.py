"""Merkle trees (which bytes) and Merkle-sum trees (which integers, and what they add up to).

A test set's root names its examples; a transcript's sum root binds the total of a score, so a wrong total is impossible
and a wrong leaf is provable alone (protocol.md, "Seats and scores"). Leaves and nodes are hashed under different
first bytes, the root binds the kind of tree and the number of leaves, so no proof of one tree reads as a proof of
another. An odd node moves up unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pot_lab.crypto.canonical import Record, tagged_hash
from pot_lab.errors import PotLabError

Node = TypeVar("Node")

_ROOT_TAG, _SUM_ROOT_TAG = "pot-lab/merkle/root/1", "pot-lab/merkle-sum/root/1"
_LEAF, _NODE, _SUM_LEAF, _SUM_NODE = b"\x00", b"\x01", b"\x02", b"\x03"
_SUM_BYTES = 16
_MAX_SUM = 1 << (8 * _SUM_BYTES - 1)
_MAX_COUNT = 1 << 40
_BLOCK = 1 << 10
"""Leaves below one kept node of a sum tree; a power of two."""


class BadTree(PotLabError):
    """A tree cannot be built, or has no such leaf.

    What to do: ask for a leaf that is in the tree, or build the tree of at least one leaf.
    """


class MerkleProof(Record, frozen=True):
    """Where a leaf stands (`index` of `count`) and the hashes beside its way up."""

    index: int
    count: int
    siblings: tuple[bytes, ...]

    def verify(self, root: bytes, leaf: bytes) -> bool:
        """Whether `leaf` is the leaf at `index` of the tree of `count` leaves with this 32-byte `root`."""
        top = _climb(leaf_hash(leaf), self.index, self.count, self.siblings, node_hash)
        return top is not None and _bind(top, self.count) == root


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Root (32 bytes) over the leaves' bytes in order. Takes them one by one, and keeps a few hashes only.

    Raises:
        BadTree: no leaves.
    """
    return _bind(*_folded((leaf_hash(leaf) for leaf in leaves), node_hash))


def merkle_proof(leaves: Sequence[bytes], index: int) -> MerkleProof:
    """Proof that `leaves[index]` is under `merkle_root(leaves)`.

    Raises:
        BadTree: no leaves, or no such index.
    """
    levels = _levels([leaf_hash(leaf) for leaf in leaves], node_hash)
    return MerkleProof(index, len(leaves), tuple(_siblings(levels, index)))


class SumNode(Record, frozen=True):
    """A node of a Merkle-sum tree: its hash (32 bytes) and the sum of the leaves below it."""

    hash: bytes
    total: int


def sum_root(top: SumNode, count: int) -> bytes:
    """The root (32 bytes) of a sum tree of `count` leaves with this top node; it binds their number and their sum.

    Raises:
        BadTree: no tree has such a node.
    """
    if not 0 < count < _MAX_COUNT or not _in_range(top.total) or len(top.hash) != hashlib.sha256().digest_size:
        raise BadTree("no tree has such a top node", seen=(top.total, count), wanted="a 128-bit sum, at least one leaf")
    return _bind_sum(top, count)


class SumProof(Record, frozen=True):
    """Where a value stands (`index` of `count`) and the nodes beside its way up."""

    index: int
    count: int
    siblings: tuple[SumNode, ...]

    def verify(self, root: bytes, total: int, value: int) -> bool:
        """Whether `value` is the leaf at `index` of the sum tree with this `root`, whose leaves add up to `total`."""
        if not 0 <= self.index < self.count < _MAX_COUNT:
            return False
        if not _in_range(value) or not all(_in_range(node.total) for node in self.siblings):
            return False
        top = _climb(_sum_leaf(self.index, value), self.index, self.count, self.siblings, _sum_node)
        return top is not None and top.total == total and _bind_sum(top, self.count) == root


class SumTree:
    """A Merkle-sum tree over integers, e.g. the per-example results of one score.

    It keeps the values as they were given, which must not change, and one node for every `_BLOCK` of them; a proof
    computes the nodes of one block again. So a tree over a compact array (such as a memoryview) takes little more
    memory than the array.

    Args:
        values: one integer an example, in order.
    Raises:
        BadTree: no values, or one outside the 128-bit signed range.
    """

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values
        starts = range(0, len(values), _BLOCK)
        self._levels = _levels([_folded(self._block(start), _sum_node)[0] for start in starts], _sum_node)
        top = self._levels[-1][0]
        self.count: int = len(values)
        self.total: int = top.total
        self.top: SumNode = top
        self.root: bytes = _bind_sum(top, self.count)

    def proof(self, index: int) -> SumProof:
        """Proof of the value at `index`; raises BadTree when there is none."""
        if not 0 <= index < self.count:
            raise BadTree("a tree has no such leaf", seen=index, wanted=f"0 .. {self.count - 1}")
        block, place = divmod(index, _BLOCK)
        below = _siblings(_levels(list(self._block(block * _BLOCK)), _sum_node), place)
        return SumProof(index, self.count, tuple(below + _siblings(self._levels, block)))

    def _block(self, start: int) -> Iterable[SumNode]:
        """Leaves from `start` on, at most `_BLOCK`."""
        for index in range(start, min(start + _BLOCK, len(self._values))):
            value = self._values[index]
            if not _in_range(value):
                raise BadTree("a value does not fit a sum tree", seen=value, wanted="a signed 128-bit integer")
            yield _sum_leaf(index, value)


def leaf_hash(leaf: bytes) -> bytes:
    """A leaf's node of a Merkle tree, 32 bytes."""
    return hashlib.sha256(_LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two nodes of a Merkle tree, 32 bytes."""
    return hashlib.sha256(_NODE + left + right).digest()


def _bind(top: bytes, count: int) -> bytes:
    return tagged_hash(_ROOT_TAG, count.to_bytes(8, "big"), top)


def _in_range(value: int) -> bool:
    return -_MAX_SUM <= value < _MAX_SUM


def _sum_bytes(value: int) -> bytes:
    return value.to_bytes(_SUM_BYTES, "big", signed=True)


def _sum_leaf(index: int, value: int) -> SumNode:
    return SumNode(hashlib.sha256(_SUM_LEAF + index.to_bytes(8, "big") + _sum_bytes(value)).digest(), value)


def _sum_node(left: SumNode, right: SumNode) -> SumNode:
    total = left.total + right.total
    if not _in_range(total):
        raise BadTree("a sum does not fit a sum tree", seen=total, wanted="a signed 128-bit integer")
    parts = _SUM_NODE, left.hash, _sum_bytes(left.total), right.hash, _sum_bytes(right.total)
    return SumNode(hashlib.sha256(b"".join(parts)).digest(), total)


def _bind_sum(top: SumNode, count: int) -> bytes:
    return tagged_hash(_SUM_ROOT_TAG, count.to_bytes(8, "big"), _sum_bytes(top.total), top.hash)


def _folded(leaves: Iterable[Node], join: Callable[[Node, Node], Node]) -> tuple[Node, int]:
    """Top of the tree over `leaves`, and how many they are. `peaks` are the full subtrees so far, largest first."""
    peaks: list[Node] = []
    count = 0
    for node in leaves:
        count += 1
        for _ in range((count & -count).bit_length() - 1):
            node = join(peaks.pop(), node)
        peaks.append(node)
    if not peaks:
        raise BadTree("a tree needs at least one leaf")
    top = peaks.pop()
    while peaks:
        top = join(peaks.pop(), top)
    return top, count


def _levels(leaves: list[Node], join: Callable[[Node, Node], Node]) -> list[list[Node]]:
    if not leaves:
        raise BadTree("a tree needs at least one leaf")
    levels = [leaves]
    while len(level := levels[-1]) > 1:
        above = [join(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        levels.append(above + level[-1:] if len(level) % 2 else above)
    return levels


def _siblings(levels: list[list[Node]], index: int) -> list[Node]:
    if not 0 <= index < len(levels[0]):
        raise BadTree("a tree has no such leaf", seen=index, wanted=f"0 .. {len(levels[0]) - 1}")
    found = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            found.append(level[index ^ 1])
        index >>= 1
    return found


def _climb(
    node: Node, index: int, count: int, siblings: Sequence[Node], join: Callable[[Node, Node], Node]
) -> Node | None:
    if not 0 <= index < count < _MAX_COUNT:
        return None
    remaining, width = list(reversed(siblings)), count
    while width > 1:
        if index ^ 1 < width:
            if not remaining:
                return None
            other = remaining.pop()
            try:
                node = join(other, node) if index % 2 else join(node, other)
            except BadTree:
                return None
        index, width = index >> 1, (width + 1) >> 1
    return None if remaining else node
