"""The most used models of the field, as published: exported, trained as they are in torch, scored as they compute."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from tests.scoring.published import MORE_TORCHVISION, MORE_TRANSFORMERS, TIMM, TORCHVISION, TRANSFORMERS, Example


def check(example: Example) -> None:
    """Export compares outputs, buffers and gradients; three steps and the exact score are left."""
    module, inputs = example
    artifact = export_model(module, inputs)
    graph = load_graph(artifact.graph)
    (found,) = exact_model(graph, artifact.weights).run(inputs)
    wanted = outputs_of(module, inputs)
    largest = float(wanted.abs().max())
    assert largest > 0
    assert float((found - wanted).abs().max()) <= 1e-5 * largest + own_rounding(module, inputs, wanted)
    twin = trainable(graph, artifact.weights)
    optimizer = torch.optim.SGD(twin.parameters(), 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        outputs = twin.train()(inputs).flatten(0, -2)
        F.cross_entropy(outputs, torch.arange(len(outputs)) % outputs.shape[-1]).backward()
        optimizer.step()
    state = twin.state_dict()
    state._metadata = getattr(module.state_dict(), "_metadata", {})  # MNASNet asks for the version of its own file
    module.load_state_dict(state)


def outputs_of(module: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What the module computes in evaluation."""
    with torch.no_grad():
        outputs = module.eval()(inputs)
    outputs = getattr(outputs, "logits", outputs)
    return outputs if isinstance(outputs, torch.Tensor) else outputs.last_hidden_state


def own_rounding(module: torch.nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> float:
    """How far float32 takes the module's own outputs from those in float64: most where weights are standardised.

    0.0 of a module that float64 cannot run.
    """
    try:
        exact = outputs_of(copy.deepcopy(module).double(), inputs.double() if inputs.is_floating_point() else inputs)
    except RuntimeError:
        return 0.0
    return float((exact - outputs).abs().max())


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_model_of_transformers_works_as_published(name: str) -> None:
    pytest.importorskip("transformers", reason="the extra `published` is not installed")
    check(TRANSFORMERS[name]())


@pytest.mark.long
@pytest.mark.parametrize("name", MORE_TRANSFORMERS)
def test_more_models_of_transformers_work_as_published(name: str) -> None:
    pytest.importorskip("transformers", reason="the extra `published` is not installed")
    check(MORE_TRANSFORMERS[name]())


@pytest.mark.long
@pytest.mark.parametrize("name", [*TORCHVISION, *MORE_TORCHVISION])
def test_a_model_of_torchvision_works_as_published(name: str) -> None:
    pytest.importorskip("transformers", reason="the extra `published` is not installed")
    check({**TORCHVISION, **MORE_TORCHVISION}[name]())


@pytest.mark.long
@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm_works_as_published(name: str) -> None:
    pytest.importorskip("timm", reason="the extra `published` is not installed")
    check(TIMM[name]())
