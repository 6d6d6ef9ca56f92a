"""Scores: exact integers, the same on every machine, for any batch size and any number of threads.

Examples are streamed in batches, so memory grows with the test set by a few bytes an example only. A score is defined
example by example; that a batch may be taken at once is proved for the batch sizes in use (`check_batch`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pot_lab.scoring.dataset import (
    DatasetFile,
    Inputs,
    as_inputs,
    as_tensor,
    check_dataset,
    check_form,
    check_values,
    save_dataset,
    some_rows,
)
from pot_lab.scoring.errors import BadDataset, WorkerFailed
from pot_lab.scoring.exact_model import ExactModel, Model, as_exact_model, exact_model
from pot_lab.scoring.functions import ScoreFunction, score_function
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.tensor_file import write_tensors
from pot_lab.scoring.transcript import Transcript, result_type
from pot_lab.scoring.workers import run_workers


@dataclass(frozen=True)
class Score:
    """A score, to be compared with others of the same function and test set only.

    Attributes:
        total: sum over the examples, or the number of examples without a finite result if not `valid`.
        count: examples.
        valid: False ranks below every valid score.
        digest: names the transcript's bytes, 32 bytes.
        root: Merkle-sum root over the examples, 32 bytes; binds `total` and `count`.
        transcript: the per-example numbers.
    """

    total: int
    count: int
    valid: bool
    digest: bytes
    root: bytes
    transcript: Transcript = field(repr=False, compare=False)

    @property
    def function(self) -> ScoreFunction:
        return self.transcript.function

    def better_than(self, other: Score) -> bool:
        """Whether this ranks strictly above `other`; integers only."""
        if self.valid != other.valid or not self.valid:
            return self.valid and not other.valid
        ours, theirs = self.total * other.count, other.total * self.count
        return ours > theirs if self.function.higher_is_better else ours < theirs

    @classmethod
    def of(cls, transcript: Transcript) -> Score:
        return cls(transcript.total, transcript.count, transcript.valid, transcript.digest, transcript.root, transcript)


@dataclass(frozen=True)
class ExampleScore:
    """One example's result: `value` counts only where not `invalid`."""

    value: int
    invalid: bool

    def leaf(self, valid: bool) -> int:
        """What a transcript that calls the score `valid` (or not) must hold for this example; -1 where it cannot call
        it valid."""
        if valid:
            return -1 if self.invalid else self.value
        return int(self.invalid)


def score(
    model: Model,
    inputs: Inputs,
    targets: Tensor,
    function: str | ScoreFunction = "accuracy",
    *,
    batch_size: int | None = None,
    device: str | None = None,
    slices: int = 1,
    workers: int = 1,
) -> Score:
    """Score a model on a test set.

    Args:
        model: an `nn.Module`, an artifact, (graph bytes, weights bytes) or an `ExactModel`.
        inputs, targets: the examples, first axis; sliced batch by batch, so they may be memory-mapped. A model that
            takes several inputs gets a tuple.
        function: `accuracy`, `cross_entropy` and others (`functions.py`), or an identifier with a version such as
            `accuracy/1`.
        batch_size: examples at once; no bit of the result depends on it.
        device: "cpu" or "cuda"; no bit depends on it.
        slices: 2 computes the model close to float64, at about three times the cost; the same as `[slices=2]` in the
            function's identifier, so another score.
        workers: processes that share the work; no bit depends on it. With more than one, the files go through a
            temporary folder; `score_file` needs no copy.
    Raises: ShapeMismatch, DtypeMismatch, BadDataset, BadWeights, HostileGraph, UnsupportedOperator,
    UnknownScoreFunction, WorkerFailed.
    """
    chosen = _chosen(function, slices)
    inputs, targets = as_inputs(inputs), as_tensor(targets, "targets")
    exact = as_exact_model(model, inputs, device=device, slices=chosen.slices)
    check_form(exact.graph, inputs, targets, chosen)
    if workers == 1:
        return Score.of(Transcript.of(chosen, *evaluated(exact, inputs, targets, chosen, batch_size=batch_size)))
    with tempfile.TemporaryDirectory(prefix="pot-lab-score-") as folder:
        graph, weights, data = (
            Path(folder, name) for name in ("graph.json", "weights.safetensors", "data.safetensors")
        )
        graph.write_bytes(exact.graph.data)
        weights.write_bytes(write_tensors(exact.weights))
        save_dataset(data, inputs, targets, exact.graph.limits)
        device = str(exact.arithmetic.device)
        return _with_workers(graph, weights, data, len(targets), chosen, workers, batch_size, device)


def score_file(
    graph: Path,
    weights: Path,
    data: Path,
    function: str | ScoreFunction = "accuracy",
    *,
    batch_size: int | None = None,
    device: str | None = None,
    slices: int = 1,
    workers: int = 1,
) -> Score:
    """Score files: a graph, a weights file and a data file that may be larger than memory. The arguments and errors
    are those of `score`, and OSError."""
    chosen = _chosen(function, slices)
    loaded, opened = load_graph(graph.read_bytes()), DatasetFile(data)
    check_form(loaded, opened.inputs, opened.targets, chosen)
    if workers != 1:
        count = len(opened.targets)
        return _with_workers(graph, weights, data, count, chosen, workers, batch_size, device or "cpu")
    exact = exact_model(loaded, weights.read_bytes(), device=device or "cpu", slices=chosen.slices)
    return score_opened(exact, opened, chosen, batch_size=batch_size)


def score_opened(
    exact: ExactModel, data: DatasetFile, function: str | ScoreFunction, *, batch_size: int | None = None
) -> Score:
    """Score a model on a data file that is open, and may be larger than memory. Raises as `score` does."""
    chosen = score_function(function)
    check_form(exact.graph, data.inputs, data.targets, chosen)
    results = evaluated(
        exact, data.inputs, data.targets, chosen, batch_size=batch_size, after_batch=lambda done: data.release()
    )
    return Score.of(Transcript.of(chosen, *results))


def evaluated(
    exact: ExactModel,
    inputs: Inputs,
    targets: Tensor,
    function: ScoreFunction,
    *,
    rows: range | None = None,
    batch_size: int | None = None,
    after_batch: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.bool_]]:
    """Results of the examples in `rows` (all if None), and marks of those without a finite result. Memory holds one
    batch and a few bytes an example.

    Raises: BadDataset, BatchMixing, CostLimit.
    """
    exact = exact.with_slices(function.slices)
    rows = range(len(targets)) if rows is None else rows
    step = exact.default_batch_size() if batch_size is None else batch_size
    if step < 1:
        raise BadDataset("a batch needs an example", seen=batch_size, wanted="at least 1")
    values, invalid = np.empty(len(rows), dtype=result_type(function)), np.empty(len(rows), dtype=bool)
    for first in range(0, len(rows), step):
        batch = slice(rows.start + first, min(rows.start + first + step, rows.stop))
        some, labels = some_rows(inputs, batch), targets[batch]
        check_values(exact.graph, some, labels, function, batch.start)
        found, marks = exact.results(some, labels, function)
        place = slice(first, first + len(found))
        values[place], invalid[place] = found.numpy(), marks.numpy()
        after_batch(place.stop)
    return values, invalid


def _with_workers(
    graph: Path,
    weights: Path,
    data: Path,
    count: int,
    function: ScoreFunction,
    workers: int,
    batch_size: int | None,
    device: str,
) -> Score:
    if workers < 1:
        raise WorkerFailed("a score needs a worker", seen=workers, wanted="at least 1")
    results = run_workers(
        graph, weights, data, count, function.identifier, workers=workers, batch_size=batch_size, device=device
    )
    return Score.of(Transcript.of(function, *results))


def score_example(
    model: Model,
    inputs: Inputs,
    targets: Tensor,
    function: str | ScoreFunction = "accuracy",
    *,
    index: int,
    device: str | None = None,
    slices: int = 1,
) -> ExampleScore:
    """Score one example of a test set, as a dispute does; costs one example."""
    chosen = _chosen(function, slices)
    inputs, targets = as_inputs(inputs), as_tensor(targets, "targets")
    if not 0 <= index < len(targets):
        raise BadDataset("no such example", seen=index, wanted=f"0 to {len(targets) - 1}")
    exact = as_exact_model(model, inputs, device=device, slices=chosen.slices)
    one, target = some_rows(inputs, slice(index, index + 1)), targets[index : index + 1]
    check_dataset(exact.graph, one, target, chosen)
    values, invalid = exact.results(one, target, chosen)
    return ExampleScore(int(values[0]), bool(invalid[0]))


def _chosen(function: str | ScoreFunction, slices: int) -> ScoreFunction:
    """The score function; `slices=1` leaves what its identifier says."""
    found = score_function(function)
    return found if slices == 1 else found.with_slices(slices)


def unusable_score(function: str | ScoreFunction, count: int) -> Score:
    """The score of a model whose files cannot be loaded: invalid, every example without a result."""
    return Score.of(Transcript.unusable(score_function(function), count))
