"""A module that returns several results: the one that is scored, by name, by place or by default."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pot_lab.scoring import export_model, load_graph, score, trainable
from pot_lab.scoring.errors import ExportFailed

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
Named = collections.namedtuple("Named", ("scores", "hidden"))
Logits = collections.namedtuple("Logits", ("logits", "hidden"))


@dataclass
class Plain:
    """Known neither to torch nor to transformers."""

    loss: float
    scores: Tensor
    hidden: Tensor | None


class Several(nn.Module):
    """Two results, returned in some form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.scores, self.hidden, self.form = nn.Linear(4, 3), nn.Linear(4, 2), form

    def forward(self, x: Tensor) -> Any:
        a, b = self.scores(x), self.hidden(x)
        forms: dict[str, Any] = {
            "dataclass": Plain(0.5, a, b),
            "half dataclass": Plain(0.5, a, None),
            "dict": {"scores": a, "hidden": b},
            "tuple": (a, b),
            "nested": (a, {"deep": [b, b.shape[1], "text"]}),
            "named tuple": Named(a, b),
            "logits": Logits(a, b),
            "logits while training": Logits(a, b) if self.training else a,
            "tensor": a,
        }
        return forms[self.form]


@pytest.mark.parametrize(
    ("form", "output", "width"),
    [
        ("dataclass", "scores", 3),
        ("dataclass", "hidden", 2),
        ("half dataclass", None, 3),
        ("dict", "hidden", 2),
        ("tuple", 0, 3),
        ("tuple", 1, 2),
        ("nested", 0, 3),
        ("named tuple", "hidden", 2),
        ("named tuple", 1, 2),
        ("logits", None, 3),
        ("logits while training", None, 3),
        ("tensor", None, 3),
    ],
)
def test_the_chosen_result_is_the_models(form: str, output: str | int | None, width: int) -> None:
    net = Several(form)
    artifact = export_model(net, X, output=output)
    graph = load_graph(artifact.graph)
    assert [o.shape for o in graph.outputs] == [(width,)]
    part = net.scores if width == 3 else net.hidden
    assert torch.equal(trainable(graph, artifact.weights).eval()(X), part(X))
    assert score(artifact, X, torch.zeros(6, dtype=torch.int64), "accuracy").valid
    assert not net._forward_hooks


@pytest.mark.parametrize(
    ("form", "output", "reason"),
    [
        ("dict", None, "seen: scores, hidden, wanted: output='scores' or output='hidden'"),
        ("dataclass", None, "seen: loss, scores, hidden, wanted: output='scores' or output='hidden'"),
        ("named tuple", None, "wanted: output='scores' or output='hidden'"),
        ("dict", "logits", "seen: output='logits', wanted: output='scores'"),
        ("dict", 0, "seen: output=0, wanted: output='scores'"),
        ("dataclass", "loss", "seen: output='loss', which is float, wanted: output='scores'"),
        ("tuple", 2, "seen: output=2, wanted: output=0 or output=1"),
        ("tuple", True, "seen: output=True"),
        ("nested", 1, "seen: output=1, which is dict, wanted: output=0"),
        ("nested", None, "must return a tensor"),
        ("tensor", "scores", "no `output`: the module returns one tensor"),
    ],
)
def test_a_choice_that_names_no_tensor_is_refused_with_those_that_do(
    form: str, output: str | int | None, reason: str
) -> None:
    net = Several(form)
    with pytest.raises(ExportFailed) as refusal:
        export_model(net, X, output=output)
    assert reason in str(refusal.value)
    assert not net._forward_hooks


def test_a_hook_of_the_owners_sees_what_forward_returned() -> None:
    net = Several("dict")
    net.register_forward_hook(lambda _, __, found: {"scores": found["scores"] * 2, "hidden": found["hidden"]})
    artifact = export_model(net, X, output="scores")
    assert torch.equal(trainable(load_graph(artifact.graph), artifact.weights).eval()(X), net(X)["scores"])


def test_what_only_the_other_results_need_is_not_looked_at() -> None:
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"scores": self.scores(x), "spectrum": torch.fft.fft(x).abs()}

    assert len(load_graph(export_model(Spectrum(), X, output="scores").graph).nodes) == 1
