"""A data file's tree on disk: the tree that the root is of, and proofs of it by a few reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab.crypto.merkle import BadTree, merkle_proof, merkle_root
from pot_lab.judging.helper import tree_file
from pot_lab.judging.helper.files import CopyDamaged
from pot_lab.judging.helper.tree_file import proof_from_tree, write_tree


def leaves_of(count: int) -> list[bytes]:
    return [bytes([i % 251]) * (i % 7 + 1) for i in range(count)]


@pytest.mark.parametrize("read_nodes", [2, 4, 1 << 14])
@pytest.mark.parametrize("count", [*range(1, 20), 64, 65, 1_000])
def test_proofs_from_the_file_are_those_of_the_tree(
    tmp_path: Path, count: int, read_nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_file, "_READ_NODES", read_nodes)
    leaves = leaves_of(count)
    root = write_tree(tmp_path / "tree", leaves)
    assert root == merkle_root(leaves)
    for index in range(0, count, max(1, count // 50)):
        found = proof_from_tree(tmp_path / "tree", index, count)
        assert found == merkle_proof(leaves, index) and found.verify(root, leaves[index])


def test_a_file_of_another_length_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    write_tree(path, leaves_of(10))
    for count in (1, 9, 11, 1_000):
        with pytest.raises(CopyDamaged):
            proof_from_tree(path, 0, count)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CopyDamaged):
        proof_from_tree(path, 0, 10)


def test_a_tree_needs_a_leaf_and_a_place_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(BadTree):
        write_tree(tmp_path / "empty", [])
    (tmp_path / "kept").write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        write_tree(tmp_path / "kept", [b"a"])
