"""What a validator publishes for a score: one whole number for each example, and the Merkle-sum root that binds their
total. The root makes a wrong total impossible, and a wrong example can be shown alone.

A model that gives a value that is not finite for some example is invalid, and ranks last. Then the leaves mark the
examples: 1 for each example without a finite result, 0 for the others, so the claim "invalid" is also shown by one
example (scoring-spec.md, "9. Transcript").
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pot_lab.crypto.canonical import Record, decode, encode, tagged_hash
from pot_lab.crypto.merkle import SumProof, SumTree
from pot_lab.errors import Malformed
from pot_lab.scoring.errors import BadTranscript
from pot_lab.scoring.functions import score_function
from pot_lab.scoring.score_records import ScoreFunction

_TAG = "pot-lab/transcript/1"
_WIDTHS = (1, 2, 4, 8)
_HEADER_BYTES = 256


def result_type(function: ScoreFunction) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest unsigned type that holds every example's result."""
    return np.dtype(f"u{next(w for w in _WIDTHS if function.largest < 1 << (8 * w))}")


class _Body(Record, frozen=True):
    version: Literal[1]
    function: str
    valid: bool
    count: int
    width_bytes: int
    values: bytes


@dataclass(frozen=True, eq=False)
class Transcript:
    """Per-example results of one score.

    Attributes:
        function: the score function.
        valid: whether every example had a finite result.
        values: unsigned integers [count] of any width: results, or where the score is invalid 1 for each example
            without a result. Not to be changed.
    """

    function: ScoreFunction
    valid: bool
    values: NDArray[np.unsignedinteger[Any]]

    @classmethod
    def of(
        cls,
        function: ScoreFunction,
        values: Sequence[int] | NDArray[np.integer],
        invalid: Sequence[bool] | NDArray[np.bool_],
    ) -> Transcript:
        """From results and the marks of examples without one."""
        marks = np.asarray(invalid, dtype=bool)
        if marks.any():
            return cls(function, False, marks.astype(np.uint8))
        return cls(function, True, np.asarray(values, dtype=result_type(function)))

    @classmethod
    def unusable(cls, function: ScoreFunction, count: int) -> Transcript:
        """Of a model that cannot be loaded at all: every example is without a result."""
        return cls(function, False, np.ones(count, dtype=np.uint8))

    @property
    def count(self) -> int:
        """Number of examples."""
        return int(self.values.shape[0])

    @functools.cached_property
    def tree(self) -> SumTree:
        """Merkle-sum tree over `values`, one leaf an example."""
        return SumTree(memoryview(np.ascontiguousarray(self.values).data))

    @functools.cached_property
    def total(self) -> int:
        """The score: the sum of the values or what its function makes of them; or the number of examples without a
        result."""
        if self.valid and self.function.total is not None:
            return self.function.total(self.values)
        return self.tree.total

    @property
    def root(self) -> bytes:
        """Merkle-sum root, 32 bytes; binds the values, their sum and their number."""
        return self.tree.root

    @functools.cached_property
    def data(self) -> bytes:
        """Canonical bytes: values little-endian in the fewest of 1, 2, 4 or 8 bytes each that hold the largest."""
        largest = int(self.values.max(initial=0))
        width = next(w for w in _WIDTHS if largest < 1 << (8 * w))
        packed = self.values.astype(f"<u{width}", copy=False).tobytes()
        return encode(_Body(1, self.function.identifier, self.valid, self.count, width, packed))

    @property
    def digest(self) -> bytes:
        """Tagged hash of `data`, 32 bytes: names the transcript."""
        return tagged_hash(_TAG, self.data)

    def proof(self, index: int) -> SumProof:
        """Proof of one example's value under the root."""
        return self.tree.proof(index)


def first_difference(first: Transcript, second: Transcript) -> int | None:
    """The first example by which two transcripts of one model contradict each other; None where they are equal.

    Where one calls the score valid and the other does not, it is the first example that the latter marks: there, one of
    the two is wrong.
    """
    if first.valid is second.valid:
        differing = np.flatnonzero(first.values.astype(np.uint64) != second.values.astype(np.uint64))
    else:
        differing = np.flatnonzero((second if first.valid else first).values)
    return int(differing[0]) if len(differing) else None


def parse_transcript(data: bytes, *, count: int) -> Transcript:
    """Read transcript bytes from outside; `count` is the number of examples in the test set.

    Raises: BadTranscript, Oversize, Malformed, UnknownScoreFunction.
    """
    body = decode(data, _Body, limit_bytes=_HEADER_BYTES + 8 * count)
    if body.count != count or count < 1:
        raise BadTranscript("a transcript has the wrong number of examples", seen=body.count, wanted=count)
    if body.width_bytes not in _WIDTHS or len(body.values) != body.width_bytes * count:
        raise BadTranscript(
            "a transcript's values do not have their width",
            seen=f"{len(body.values)} bytes for width {body.width_bytes}",
        )
    function = score_function(body.function)
    if function.identifier != body.function:
        raise BadTranscript("a transcript must name its function's version", seen=body.function)
    values = np.frombuffer(body.values, dtype=f"<u{body.width_bytes}")
    transcript = Transcript(function, body.valid, values)
    if transcript.data != data:
        raise Malformed("a transcript's values could be shorter", seen=body.width_bytes)
    largest = int(values.max())
    if largest > (function.largest if body.valid else 1):
        raise BadTranscript(
            "a transcript has a value that no example can have",
            seen=largest,
            wanted=f"at most {function.largest if body.valid else 1}",
        )
    if not body.valid and largest == 0:
        raise BadTranscript("a transcript calls a score invalid, and shows no example without a result")
    return transcript
