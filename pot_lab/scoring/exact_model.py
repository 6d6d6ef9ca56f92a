"""A graph with weights, run in exact arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.backends import Backend
from pot_lab.scoring.dataset import each_input, some_rows
from pot_lab.scoring.export.given_modules import not_a_module
from pot_lab.scoring.export.trial import TRIED
from pot_lab.scoring.export.writer import ModelArtifact, export_model
from pot_lab.scoring.given_data import Inputs
from pot_lab.scoring.graph.model_graph import ModelGraph, Node, references
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.graph.tracing import call_exact, check_batch
from pot_lab.scoring.graph.weights import load_weights
from pot_lab.scoring.score_records import ScoreFunction

BATCH_ELEMENTS = 1 << 21
"""Elements (float64) that the largest tensor of a batch should have when no batch size is given."""


class ExactModel:
    """A graph with weights in exact arithmetic, made by `exact_model`. Weights are quantised once; `run` may be called
    often.

    Attributes:
        graph: the checked graph.
        weights: state tensors by name, as `load_weights` gives them.
        arithmetic: how products are computed, and where.
    """

    def __init__(self, graph: ModelGraph, weights: Mapping[str, Tensor], arithmetic: Arithmetic) -> None:
        self.graph = graph
        self.weights = weights
        self.arithmetic = arithmetic
        self._proved: set[int] = {1, 2, 3}
        with torch.no_grad():
            fixed = [arithmetic.fix(self._entering(weights[s.name])) for s in graph.state]
            self._fixed: list[Any] = [*fixed, *[None] * (len(graph.inputs) + len(graph.nodes))]
            self._steps: list[tuple[int, Node]] = []
            self._fold()

    def with_slices(self, slices: int) -> ExactModel:
        """The same weights with products in `slices` slices, 1 or 2."""
        ours = self.arithmetic
        if slices == ours.slices:
            return self
        return ExactModel(self.graph, self.weights, Arithmetic(ours.backend, ours.device, slices))

    def _entering(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.arithmetic.device)
        return tensor.to(torch.float64) if tensor.dtype.is_floating_point else tensor

    def _fold(self) -> None:
        """Compute once what depends on no example."""
        first = len(self.graph.state) + len(self.graph.inputs)
        depends = [False] * len(self.graph.state) + [True] * len(self.graph.inputs)
        for number, node in enumerate(self.graph.nodes):
            live = any(depends[i] for i in references([*node.args, *node.kwargs.values()]))
            depends.append(live)
            if live:
                self._steps.append((number, node))
                continue
            value = call_exact(self.arithmetic, node, self._fixed)
            for tensor in value if isinstance(value, tuple | list) else [value]:
                if isinstance(tensor, Tensor):
                    self.arithmetic.fix(tensor)
            self._fixed[first + number] = value

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs, float64 [batch, ...], of inputs [batch, ...].

        Raises: BatchMixing or CostLimit where the batch's size cannot be proved harmless.
        """
        batch = int(inputs[0].shape[0])
        if batch not in self._proved:
            check_batch(self.graph, batch)
            self._proved.add(batch)
        first = len(self.graph.state) + len(self.graph.inputs)
        with torch.inference_mode(), torch.autocast(self.arithmetic.device.type, enabled=False):
            values = list(self._fixed)
            for place, tensor in enumerate(inputs, len(self.graph.state)):
                values[place] = self._entering(tensor)
            for number, node in self._steps:
                values[first + number] = call_exact(self.arithmetic, node, values)
                for index in self.graph.last_uses[number]:
                    values[index] = None
            return tuple(values[r.index] for r in self.graph.results)

    def default_batch_size(self) -> int:
        """Examples at once where nothing else is given: 1 to 1024, so that the largest tensor has about
        `BATCH_ELEMENTS` elements."""
        return max(1, min(1024, BATCH_ELEMENTS // max(1, self.graph.cost.largest_elements)))

    def results(self, inputs: Inputs, targets: Tensor, function: ScoreFunction) -> tuple[Tensor, Tensor]:
        """(values int64 [batch], marks of examples without a finite result bool [batch])."""
        (outputs,) = self.run(*each_input(inputs))
        with torch.inference_mode():
            outputs = outputs.to(torch.float64)
            invalid = ~torch.isfinite(outputs).reshape(len(outputs), -1).all(1)
            values = function.evaluate(
                outputs.masked_fill(invalid.reshape(-1, *[1] * (outputs.dim() - 1)), 0.0), targets.to(outputs.device)
            )
            return values.cpu(), invalid.cpu()


def exact_model(
    graph: ModelGraph,
    weights: bytes | Mapping[str, Tensor],
    *,
    backend: str | Backend | None = None,
    device: torch.device | str = "cpu",
    slices: int = 1,
) -> ExactModel:
    """A graph with weights in exact arithmetic.

        exact = exact_model(load_graph(artifact.graph), artifact.weights)
        (outputs,) = exact.run(inputs)

    Args:
        graph: from `load_graph`.
        weights: safetensors bytes that fit the graph, or the tensors that `load_weights` read.
        backend: how products are computed, "float64", "int64", "int8" or a `Backend`; None takes the fastest on this
            machine. No bit of a result depends on it.
        device: "cpu" or "cuda"; no bit depends on it.
        slices: 1 or 2; part of what the score is (scoring-spec.md, "3. Products").
    Raises: BadWeights, DtypeMismatch, ShapeMismatch, Oversize.
    """
    tensors = load_weights(graph, weights) if isinstance(weights, bytes) else weights
    return ExactModel(graph, tensors, Arithmetic(backend, device, slices))


Model = ExactModel | ModelArtifact | nn.Module | tuple[bytes, bytes]
"""What can be scored: a model in exact arithmetic, an artifact, (graph bytes, weights bytes), or a torch module."""


def as_exact_model(model: Model, inputs: Inputs, *, device: str | None = None, slices: int = 1) -> ExactModel:
    """A model in exact arithmetic, from any of its forms.

    Args:
        inputs: examples [n, ...]; a torch module is exported with the first of them.
        device: "cpu" or "cuda"; None is "cpu". An `ExactModel` stays where it is.
        slices: 1 or 2.
    Raises: as `export_model`, `load_graph` and `exact_model`.
    """
    if isinstance(model, ExactModel):
        return model.with_slices(slices)
    if isinstance(model, nn.Module):
        model = export_model(model, each_input(some_rows(inputs, slice(TRIED))))
    if not isinstance(model, ModelArtifact | tuple) or (isinstance(model, tuple) and len(model) != 2):
        raise not_a_module(model)
    graph, weights = (model.graph, model.weights) if isinstance(model, ModelArtifact) else model
    return exact_model(load_graph(graph), weights, device=device or "cpu", slices=slices)
