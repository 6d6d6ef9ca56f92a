"""What a refusal advises works."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from pot_lab.scoring.errors import UnsupportedOperator

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


def exported(module: nn.Module) -> dict[str, str]:
    """The kinds of the state of a module's graph, whose exact outputs are the module's."""
    artifact = export_model(module, X)
    graph = load_graph(artifact.graph)
    (found,) = exact_model(graph, artifact.weights).run(X)
    with torch.no_grad():
        assert torch.allclose(found, module.eval()(X).double(), rtol=1e-5, atol=1e-6)
    module.load_state_dict(trainable(graph, artifact.weights).state_dict())
    return {s.name: s.kind for s in graph.state}


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norm_is_exported_with_its_vectors_kept(norm: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    layer = norm(nn.Linear(8, 5))
    module = nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 3)).train()
    with pytest.raises(UnsupportedOperator, match=r"layer.parametrizations.eval\(\).*weight / sigma.*, at '0"):
        export_model(module, X)
    for _ in range(20):
        module(X)
    getattr(layer, "parametrizations", layer).eval()
    kinds = exported(module)
    assert {kind for name, kind in kinds.items() if name.endswith(("_u", "_v"))} == {"buffer"}
    assert float(torch.linalg.matrix_norm(layer.weight, 2)) == pytest.approx(1.0, rel=1e-3)


class Int8(nn.Module):
    """A linear layer of int8 weights with a scale for each row."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.register_buffer("scale", weight.abs().amax(1, keepdim=True) / 127)
        self.register_buffer("whole", (weight / self.scale).round().to(torch.int8))
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.whole.to(x.dtype) * self.scale, self.bias)


def test_int8_weights_stay_bytes_and_are_scored_as_their_exact_values() -> None:
    module = nn.Sequential(Int8(nn.Linear(8, 5)), nn.Linear(5, 3))
    assert exported(module)["0.whole"] == "buffer"
    artifact = export_model(module, X)
    (whole,) = (s for s in load_graph(artifact.graph).state if s.name == "0.whole")
    assert whole.dtype == "int8"


@pytest.mark.filterwarnings("ignore")
def test_a_dynamically_quantised_layer_is_written_as_its_exact_weights() -> None:
    torch.manual_seed(0)
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 3)), {nn.Linear})[0]
    layer = nn.Linear(8, 3)
    layer.weight = nn.Parameter(quantised.weight().dequantize())
    layer.bias = nn.Parameter(quantised.bias().detach())
    assert set(exported(nn.Sequential(layer))) == {"0.weight", "0.bias"}
    with torch.no_grad():
        assert torch.allclose(layer(X), quantised(X), atol=0.05)  # which rounds activations too
