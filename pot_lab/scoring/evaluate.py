"""Scores: exact integers, the same on every machine, for any batch size and any number of threads.

Examples are streamed in batches, so memory grows with the test set by a few bytes an example only. A score is defined
example by example; that a batch may be taken at once is proved for the batch sizes in use (`check_batch`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pot_lab.scoring.dataset import DatasetFile, check_dataset, check_form, check_values, save_dataset, some_rows
from pot_lab.scoring.errors import BadDataset, WorkerFailed
from pot_lab.scoring.exact_model import ExactModel, Model, as_exact_model, exact_model
from pot_lab.scoring.functions import score_function
from pot_lab.scoring.given_data import Inputs, InputsLike, TensorLike, as_inputs, as_tensor
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.score_records import ScoreFunction
from pot_lab.scoring.tensor_file import write_tensors
from pot_lab.scoring.transcript import Transcript, result_type
from pot_lab.scoring.workers import run_workers

WORKERS_WORTH_S = 10.0
"""Work of one process below which more processes would take longer: each imports torch first."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score, to be compared with others of the same function and test set only; made by `score`.

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
        """The score function."""
        return self.transcript.function

    def better_than(self, other: Score) -> bool:
        """Whether this ranks strictly above `other`; integers only."""
        if self.valid != other.valid or not self.valid:
            return self.valid and not other.valid
        ours, theirs = self.total * other.count, other.total * self.count
        return ours > theirs if self.function.higher_is_better else ours < theirs

    @classmethod
    def of(cls, transcript: Transcript) -> Score:
        """The score that a transcript shows."""
        return cls(
            total=transcript.total,
            count=transcript.count,
            valid=transcript.valid,
            digest=transcript.digest,
            root=transcript.root,
            transcript=transcript,
        )


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
    inputs: InputsLike,
    targets: TensorLike,
    function: str | ScoreFunction = "accuracy",
    *,
    batch_size: int | None = None,
    device: str | None = None,
    slices: int = 1,
    workers: int = 1,
) -> Score:
    """Score a model on a test set: the same integers on every machine.

        >>> import torch
        >>> from pot_lab import score
        >>> net = torch.nn.Linear(4, 3)
        >>> inputs, targets = torch.randn(100, 4), torch.randint(3, (100,))
        >>> found = score(net, inputs, targets, "cross_entropy")
        >>> found.count, found.valid
        (100, True)
        >>> again = score(net, inputs.numpy(), targets.numpy(), "cross_entropy", batch_size=7)
        >>> again.digest == found.digest
        True

    Args:
        model: an `nn.Module`, which is exported with two examples; a `ModelArtifact`; (graph bytes, weights bytes); or
            an `ExactModel`, which is fastest if it is scored several times.
        inputs: as `pack_dataset` takes them [examples, ...], a tensor or an array; a tuple of them for a model that
            takes several inputs. Sliced batch by batch, so they may be memory-mapped.
        targets: [examples, ...] of the type and shape that the function takes, see `score_functions`.
        function: a name such as "accuracy", or an identifier such as "top_k_accuracy[k=3]/1"; see `score_functions`.
        batch_size: examples at once, at least 1; None chooses by the size of the model. No bit of the result depends on
            it.
        device: "cpu", "cuda" or "cuda:1"; None is "cpu". No bit depends on it.
        slices: 1, or 2 to compute the model close to float64, at about three times the cost; the same as `[slices=2]`
            in the function's identifier, so another score.
        workers: processes that share the work, at least 1; no bit depends on it. With more than one, the files go
            through a temporary folder; `score_file` needs no copy. On processors this process does by itself what
            would take it less than `WORKERS_WORTH_S`.
    Returns: the total over all examples, with the transcript that proves it.
    Raises:
        ShapeMismatch, DtypeMismatch, BadDataset: the data do not fit the model or the function, or are not finite.
        UnsupportedOperator, ExportFailed, BatchMixing, HostileGraph, CostLimit: the model cannot be scored.
        BadWeights: the weights do not fit the graph.
        UnknownScoreFunction: no such function, version or parameter.
        WorkerFailed: a worker process failed.
    """
    chosen = _chosen(function, slices)
    inputs, targets = as_inputs(inputs), as_tensor(targets, "targets")
    exact = as_exact_model(model, inputs, device=device, slices=chosen.slices)
    check_form(exact.graph, inputs, targets, chosen)
    if _alone(workers, exact, inputs, targets, chosen, batch_size):
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
    graph: Path | str,
    weights: Path | str,
    data: Path | str,
    function: str | ScoreFunction = "accuracy",
    *,
    batch_size: int | None = None,
    device: str | None = None,
    slices: int = 1,
    workers: int = 1,
) -> Score:
    """Score files without holding the data in memory.

    Args:
        graph: a graph file, canonical JSON.
        weights: a weights file, safetensors.
        data: a data file as `pack_dataset` or `save_dataset` writes it; it may be larger than memory.
        function, batch_size, device, slices, workers: as for `score`.
    Raises: as `score`, and OSError.
    """
    graph, weights, data = Path(graph), Path(weights), Path(data)
    chosen = _chosen(function, slices)
    loaded, opened = load_graph(graph.read_bytes()), DatasetFile(data)
    check_form(loaded, opened.inputs, opened.targets, chosen)
    exact = exact_model(loaded, weights.read_bytes(), device=device or "cpu", slices=chosen.slices)
    if not _alone(workers, exact, opened.inputs, opened.targets, chosen, batch_size):
        count = len(opened.targets)
        return _with_workers(graph, weights, data, count, chosen, workers, batch_size, device or "cpu")
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


def _alone(
    workers: int, exact: ExactModel, inputs: Inputs, targets: Tensor, function: ScoreFunction, batch_size: int | None
) -> bool:
    """Whether this process is to score by itself: one worker was asked for, or two batches show that all of them take
    it less than new processes need before they begin."""
    if workers == 1 or exact.arithmetic.device.type != "cpu":
        return workers == 1
    if workers < 1:
        raise WorkerFailed("a score needs a worker", seen=workers, wanted="at least 1")
    step = exact.default_batch_size() if batch_size is None else max(1, batch_size)
    count, took_s = len(targets), 0.0
    for start in (0, step):  # the first batch also makes what later ones find made
        rows = range(min(start, count - 1), min(start + step, count))
        began = time.perf_counter()
        evaluated(exact, inputs, targets, function, rows=rows, batch_size=batch_size)
        took_s = (time.perf_counter() - began) / len(rows) * count
    return took_s < WORKERS_WORTH_S


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
    results = run_workers(
        graph, weights, data, count, function.identifier, workers=workers, batch_size=batch_size, device=device
    )
    return Score.of(Transcript.of(function, *results))


def score_example(
    model: Model,
    inputs: InputsLike,
    targets: TensorLike,
    function: str | ScoreFunction = "accuracy",
    *,
    index: int,
    device: str | None = None,
    slices: int = 1,
) -> ExampleScore:
    """Score one example of a test set, as a dispute does; costs one example.

        >>> import torch
        >>> from pot_lab import score, score_example
        >>> net = torch.nn.Linear(4, 3)
        >>> inputs, targets = torch.randn(10, 4), torch.randint(3, (10,))
        >>> whole, one = score(net, inputs, targets), score_example(net, inputs, targets, index=7)
        >>> one.value == int(whole.transcript.values[7])
        True

    Args:
        model, inputs, targets, function, device, slices: as for `score`.
        index: the example's number, from 0.
    Returns: what `score` gives this example, whatever the other examples are.
    Raises: as `score`; BadDataset where there is no such example.
    """
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
    """The score function; `slices=1` keeps those of its identifier."""
    found = score_function(function)
    return found if slices == 1 else found.with_slices(slices)


def unusable_score(function: str | ScoreFunction, count: int) -> Score:
    """The score of a model whose files cannot be loaded: invalid, every example without a result."""
    return Score.of(Transcript.unusable(score_function(function), count))
