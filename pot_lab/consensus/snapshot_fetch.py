"""Fetching a whole state: in chunks, from any peer, each chunk checked against what q replicas signed.

A replica whose next batch has left everyone's log is offered a snapshot instead: a stable checkpoint with its proof,
and the digests of the snapshot's chunks, which the checkpoint's digest covers. So a wrong chunk is known when it
arrives, and the next one comes from another peer; what is here already stays. Only a few chunks are asked for at once.
"""

from __future__ import annotations

from pot_lab.consensus.checkpoint import body_digest
from pot_lab.consensus.membership import Succession, snapshot_digest
from pot_lab.consensus.messages import MAX_CHUNKS, NO_HASH, CheckpointProof, Offer
from pot_lab.crypto.canonical import sha256

_ASKED_AT_ONCE = 4


def is_sound(offer: Offer, succession: Succession, chunk_bytes: int) -> bool:
    """Whether an offer is a stable checkpoint's, its chunks are those of the snapshot that it signs, and its set is the
    last that is known.
    """
    return (
        offer.proof.snapshot != NO_HASH
        and 0 < offer.size_bytes <= chunk_bytes * MAX_CHUNKS
        and len(offer.chunks) == -(-offer.size_bytes // chunk_bytes)
        and snapshot_digest(body_digest(offer.size_bytes, offer.chunks), offer.members) == offer.proof.snapshot
        and offer.members == succession.latest.membership.digest
        and offer.proof.sequence >= succession.latest.membership.since
        and succession.at(offer.proof.sequence).stable(offer.proof)
    )


class SnapshotFetch:
    """A snapshot on its way here.

    Attributes:
        proof: the stable checkpoint that it belongs to.
        peer: who is asked now.
    """

    def __init__(self, offer: Offer, peer: int) -> None:
        self.proof: CheckpointProof = offer.proof
        self.peer = peer
        self._manifest = offer.chunks
        self._chunks: dict[int, bytes] = {}
        self._asked: set[int] = set()

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return len(self._chunks) == len(self._manifest)

    @property
    def data(self) -> bytes:
        """The snapshot's bytes."""
        return b"".join(self._chunks[index] for index in range(len(self._manifest)))

    def turn_to(self, peer: int) -> None:
        """Ask another peer for what is missing; the same one is asked already."""
        if peer != self.peer:
            self.peer = peer
            self._asked.clear()

    def ask_anew(self) -> None:
        """What was asked for did not come: it may be asked for again."""
        self._asked.clear()

    def next_indices(self) -> list[int]:
        """The chunks to ask for now; they count as asked for."""
        fresh: list[int] = []
        for index in range(len(self._manifest)):
            if len(self._asked) >= _ASKED_AT_ONCE:
                break
            if index not in self._chunks and index not in self._asked:
                self._asked.add(index)
                fresh.append(index)
        return fresh

    def take(self, index: int, data: bytes) -> bool:
        """Keep a chunk; False when it is not the one that was signed."""
        if index >= len(self._manifest) or sha256(data) != self._manifest[index]:
            return False
        self._asked.discard(index)
        self._chunks[index] = data
        return True
