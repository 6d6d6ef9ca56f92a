"""Whether a model, data and a score could be ordered, found out without a network and without money.

`check` does what `Lab.order` does before it sends anything, and tells what it found: the scores that an order would
begin with, what answers without a model would score, and what training and scoring take.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pot_lab.cards.scores import score_text
from pot_lab.notebook.baselines import Start, start_of
from pot_lab.notebook.data_notes import data_notes
from pot_lab.notebook.posting import PreparedOrder, prepare
from pot_lab.notebook.predictors import Predictors, predictors

if TYPE_CHECKING:
    from torch import nn

    from pot_lab.notebook.data import Data
    from pot_lab.scoring import ModelArtifact, ModelGraph

_SCALES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What `check` found about an order that could be placed.

    Attributes:
        prepared: the order's contents in bytes, as they would be sent.
        graph: the model.
        start: scores of the first weights and of the best constant answer.
        predictors: scores of the right answers, in their order and in another.
        train_examples: examples that providers would get.
        export_s: time for export, comparison, all checks and a training step, on this machine.
        score_s: time to score the first weights on the test data exactly, on one process of this machine.
        notes: what the data look like that may still not be meant, see `data_notes`.
    """

    prepared: PreparedOrder
    graph: ModelGraph
    start: Start
    predictors: Predictors
    train_examples: int
    export_s: float
    score_s: float
    notes: tuple[str, ...] = ()

    @property
    def upload_bytes(self) -> int:
        """What an order of this would upload; every provider and validator downloads its part."""
        p = self.prepared
        return len(p.graph) + len(p.weights) + len(p.train) + len(p.test)

    def __str__(self) -> str:
        spec, start, graph = self.prepared.score, self.start, self.graph
        (output,) = graph.outputs
        shape = f"{output.dtype} ({', '.join(map(str, ('examples', *output.shape)))})"
        first = "none: not finite for some example"
        if start.weights_total is not None:
            first = score_text(spec, start.weights_total, start.count)
        answers = self.predictors
        lines = {
            "model": f"{graph.parameters_count} parameters to train, {len(graph.nodes)} operators; output {shape}",
            "": "the module and its graph agree, in eval and in training mode, and in gradients;",
            "     ": "a training step ran",
            "data": f"{self.train_examples} train examples, {start.count} test examples",
            "score": f"{spec.name}/{spec.version}",
            " ": f"right answers         {score_text(spec, answers.right, answers.count)}",
            "  ": f"answers shuffled      {score_text(spec, answers.shuffled, answers.count)}",
            "   ": f"best constant answer  {score_text(spec, start.constant_total, start.count)}",
            "    ": f"first weights         {first}",
            "cost": f"{_scaled(graph.cost.work)} steps an example; upload {self.upload_bytes / 1e6:.3g} MB",
            "here": f"checks {self.export_s:.3g} s; exact score of the test data {self.score_s:.3g} s, "
            f"{1000 * self.score_s / start.count:.3g} ms an example",
        }
        shown = [f"{title:<10}{text}" for title, text in lines.items()]
        return "\n".join([*shown, *(f"{'note':<10}{note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"<CheckReport: can be ordered>\n{self}"


def check(
    model: nn.Module | ModelArtifact,
    train: Data,
    test: Data,
    score: str = "accuracy",
    *,
    output: str | int | None = None,
) -> CheckReport:
    """Find out whether a model could be ordered with these data and this score, without a network and without money.

    The module is exported and compared with its graph in eval mode and in training mode, with the gradients of every
    parameter; the data are checked against model and score; the default trainer takes one step; the first weights are
    scored on the test data exactly, beside answers without a model. The module is left as it was.

        >>> import torch
        >>> from torch import nn
        >>> import pot_lab
        >>> x, y = torch.rand(60, 4), torch.arange(60) % 3
        >>> report = pot_lab.check(nn.Linear(4, 3), (x[:40], y[:40]), (x[40:], y[40:]))
        >>> report.start.count, report.predictors.right
        (20, 20)

    Args:
        model, train, test, score, output: as `Lab.order` takes them.
    Returns: what was found; it prints as a table.
    Raises:
        BadArgument: nobody could train the model, or the score could not tell good models from bad ones.
        UnsupportedOperator, ExportFailed, BatchMixing, CostLimit: the module cannot be scored, with the line, the
            module's path, the reason, and what to write instead.
        BadDataset, ShapeMismatch, DtypeMismatch, Oversize: the data do not fit.
        UnknownScoreFunction: there is no such score function.
    """
    from pot_lab.scoring import load_graph, score_function, unpack_dataset

    began = time.perf_counter()
    prepared = prepare(model, train, test, score, output)
    exported = time.perf_counter()
    start = start_of(prepared)
    scored = time.perf_counter()
    graph = load_graph(prepared.graph)
    function = score_function(f"{prepared.score.name}/{prepared.score.version}")
    train_data, test_data = unpack_dataset(prepared.train), unpack_dataset(prepared.test)
    return CheckReport(
        prepared=prepared,
        graph=graph,
        start=start,
        predictors=predictors(function, graph.outputs[0], test_data.targets),
        train_examples=train_data.examples,
        notes=tuple(data_notes(train_data, test_data, function)),
        export_s=exported - began,
        score_s=scored - exported,
    )


def _scaled(number: int) -> str:
    for size, letter in _SCALES:
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
