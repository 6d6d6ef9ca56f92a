"""The Merkle tree of a data file, kept beside it: so one row is checked against the root without reading the others.

All levels in a row, from the leaves' hashes up to the top, 32 bytes each. The file is never trusted: what it gives is a
proof, and a proof from a damaged file does not verify.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pot_lab.crypto.canonical import HASH_BYTES
from pot_lab.crypto.merkle import MerkleProof, leaf_hash, merkle_root, node_hash
from pot_lab.judging.helper.files import CopyDamaged

_READ_NODES = 1 << 14


def write_tree(path: Path, leaves: Iterable[bytes]) -> bytes:
    """Write the tree over `leaves` (the bytes that are hashed, one an example), and return its root, 32 bytes.

    Holds a few thousand hashes at a time. The root does not come from the file, so it is right on any disk.

    Raises:
        OSError: also where the file is there already.
        BadTree: no leaves.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        root = merkle_root(_recorded(leaves, file))
        start, count = 0, file.tell() // HASH_BYTES
        while count > 1:
            start, count = _write_level(file, start, count), (count + 1) // 2
    return root


def _recorded(leaves: Iterable[bytes], file: BinaryIO) -> Iterator[bytes]:
    for leaf in leaves:
        file.write(leaf_hash(leaf))
        yield leaf


def _write_level(file: BinaryIO, start: int, count: int) -> int:
    """Append the level above that of `count` nodes at node `start`; returns where the new one starts."""
    above = start + count
    for first in range(0, count, _READ_NODES):
        file.seek((start + first) * HASH_BYTES)
        nodes = _nodes(file.read(min(_READ_NODES, count - first) * HASH_BYTES))
        file.seek((above + first // 2) * HASH_BYTES)
        for node in nodes:
            other = next(nodes, None)
            file.write(node if other is None else node_hash(node, other))
    return above


def _nodes(data: bytes) -> Iterator[bytes]:
    return (data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES))


def proof_from_tree(path: Path, index: int, count: int) -> MerkleProof:
    """The proof of one leaf, by a few reads.

    Raises:
        CopyDamaged: the file is not there or not as long as the tree of `count` leaves.
    """
    siblings, start, width, place = [], 0, count, index
    try:
        with path.open("rb") as file:
            while width > 1:
                if place ^ 1 < width:
                    file.seek((start + (place ^ 1)) * HASH_BYTES)
                    siblings.append(file.read(HASH_BYTES))
                start, width, place = start + width, (width + 1) // 2, place // 2
            if os.fstat(file.fileno()).st_size != (start + 1) * HASH_BYTES:
                raise CopyDamaged("the tree of the test data has another length", wanted=f"{count} leaves")
    except (OSError, ValueError) as error:
        raise CopyDamaged("the tree of the test data cannot be read", seen=type(error).__name__) from error
    return MerkleProof(index, count, tuple(siblings))
