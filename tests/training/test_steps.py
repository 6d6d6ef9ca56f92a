"""One step in parts: the same gradient as at once, whatever memory and time allow."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pot_lab.scoring import export_model, load_graph, score_function, trainable
from pot_lab.training import Device, TrainerSettings
from pot_lab.training.devices import precision_of
from pot_lab.training.memory import STEP_BYTES, rows_of_a_look, rows_of_a_step
from pot_lab.training.split import split_data
from pot_lab.training.steps import Stepper, make_optimizer, parts_of
from tests.scoring.models import CNN, exported, family

CPU = Device("cpu", "CPU", "float32")


def stepper(name: str, function: str, part_rows: int, **settings: Any) -> Stepper:
    _, inputs, targets = family(name)
    chosen = TrainerSettings(optimizer="sgd", weight_decay=0.0, clip_norm=None, **settings)
    artifact = exported(name)
    model = trainable(load_graph(artifact.graph), artifact.weights).eval()
    model.train = lambda mode=True: model  # type: ignore[method-assign]  # no dropout
    data = split_data(inputs, targets, chosen, "cpu")
    return Stepper(model, make_optimizer(model, chosen), data, score_function(function), chosen, CPU, part_rows)


def parameters(found: Stepper) -> list[torch.Tensor]:
    return [p.detach().clone() for p in found.model.parameters()]


@pytest.mark.parametrize(("name", "function"), [("mlp", "accuracy"), ("gpt", "perplexity"), ("unet", "mse")])
@pytest.mark.parametrize("part_rows", [1, 3, 64])
def test_parts_add_up_to_one_step(name: str, function: str, part_rows: int) -> None:
    whole, parts = stepper(name, function, 1000), stepper(name, function, part_rows)
    rows = whole._data.train_rows[:7]
    expected, _ = whole.take(rows, 0.1)
    found, done = parts.take(rows, 0.1)
    assert done == 7
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(parameters(parts), parameters(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_step_that_is_cut_is_the_step_of_the_examples_that_it_had() -> None:
    cut, short = stepper("gpt", "perplexity", 2), stepper("gpt", "perplexity", 2)
    rows = cut._data.train_rows[:8]
    loss, done = cut.take(rows, 0.1, lambda so_far, coming: so_far + coming > 5)
    expected, _ = short.take(rows[:4], 0.1)
    assert done == 4
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(parameters(cut), parameters(short), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_part_may_be_bounded_beside_memory() -> None:
    found, seen = stepper("mlp", "accuracy", 8), []
    found.model.register_forward_hook(lambda _model, inputs, _outputs: seen.append(len(inputs[0])))
    found.take(found._data.train_rows[:8], 0.1, at_once=3)
    found.take(found._data.train_rows[:8], 0.1, at_once=1000)
    assert seen == [3, 3, 2, 8] and found.part_rows == 8


def test_parts_are_halved_until_they_fit_into_memory() -> None:
    found, whole = stepper("mlp", "accuracy", 8), stepper("mlp", "accuracy", 8)
    forward, seen = found.model.forward, []

    def small_memory(*inputs: torch.Tensor) -> Any:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*inputs)

    found.model.forward = small_memory  # type: ignore[method-assign]
    rows = found._data.train_rows[:8]
    found.take(rows, 0.1)
    whole.take(rows, 0.1)
    assert seen == [8, 4, 2, 2, 2, 2] and found.part_rows == 2
    for ours, theirs in zip(parameters(found), parameters(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_memory_that_does_not_suffice_for_one_example_is_told() -> None:
    found = stepper("mlp", "accuracy", 2)

    def no_memory(*inputs: torch.Tensor) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    found.model.forward = no_memory  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="allocate memory"):
        found.take(found._data.train_rows[:4], 0.1)
    assert found.part_rows == 1


def test_no_part_is_too_small_for_batch_norm() -> None:
    assert [len(part) for part in parts_of(torch.arange(5), 2, 2)] == [3, 2]
    assert [len(part) for part in parts_of(torch.arange(5), 2, 1)] == [2, 2, 1]
    assert [len(part) for part in parts_of(torch.arange(1), 2, 2)] == [1]
    assert torch.equal(torch.cat(parts_of(torch.arange(20), 3, 1)), torch.arange(20))


def test_rows_follow_from_memory() -> None:
    graph = load_graph(export_model(CNN(), torch.zeros(2, 1, 8, 8)).graph)
    row_bytes = 4 * (graph.cost.total_elements + 2 * graph.cost.largest_elements)
    assert rows_of_a_step(graph, "cpu", 400 * row_bytes) == 100
    assert rows_of_a_step(graph, "cpu", 1 << 60) == STEP_BYTES // row_bytes
    assert rows_of_a_step(graph, "cuda:0", 1000 * row_bytes) == 600
    assert rows_of_a_step(graph, "cpu", 0) == rows_of_a_look(graph, "cpu", 0) == 1


def test_precision_is_what_the_hardware_has() -> None:
    assert precision_of((9, 0)) == precision_of((8, 0)) == "bfloat16 autocast"
    assert precision_of((7, 0)) == precision_of((7, 5)) == "float16 autocast"  # bfloat16 is emulated there
    assert precision_of((6, 1)) == "float32"


@pytest.mark.parametrize("precision", ["bfloat16 autocast", "float32"])
def test_a_step_runs_in_the_devices_precision(precision: str) -> None:
    found = stepper("mlp", "accuracy", 64)
    found._device = Device("cpu", "CPU", precision)
    kinds = set()
    found.model.register_forward_hook(lambda _model, _inputs, outputs: kinds.add(outputs.dtype))
    before = parameters(found)
    loss, _ = found.take(found._data.train_rows[:8], 0.1)
    assert kinds == {torch.bfloat16 if precision != "float32" else torch.float32}
    assert loss.dtype == torch.float32 and any(
        not torch.equal(a, b) for a, b in zip(before, parameters(found), strict=True)
    )
