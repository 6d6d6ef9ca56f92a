"""The most used models of the field, as published: exported, trained as they are in torch, scored as they compute."""

from __future__ import annotations

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
    with torch.no_grad():
        wanted = module.eval()(inputs)
    wanted = getattr(wanted, "logits", wanted)
    wanted = wanted if isinstance(wanted, torch.Tensor) else wanted.last_hidden_state
    own_rounding = 1e-4  # of float32, most in models that standardise their weights
    assert float(wanted.abs().max()) > 0 and float((found - wanted).abs().max()) <= own_rounding * wanted.abs().max()
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
