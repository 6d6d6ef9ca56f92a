"""Export says what a module does, or why it cannot, with the line of the user's code."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from pot_lab.scoring.errors import BatchMixing, ExportFailed, ShapeMismatch, UnsupportedOperator
from pot_lab.scoring.graph.model_graph import encode_graph
from tests.scoring.graphs import X, one_call
from tests.scoring.models import CNN, FAMILIES, SharedWeights, exported, family


class Function(nn.Module):
    """A module of one function, with a layer so that it has a weight."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_exported_model_is_the_module_to_the_bit(name: str) -> None:
    module, inputs, _ = family(name)
    artifact = exported(name)
    twin = trainable(load_graph(artifact.graph), artifact.weights)
    assert set(twin.state_dict()) == set(module.state_dict())
    # With gradients off torch's own encoder layers take a quick path of other bits, so gradients stay on.
    assert torch.equal(module(inputs), twin.eval()(inputs))
    module.train(), twin.train()
    results = []
    for model in (module, twin):
        torch.manual_seed(3)
        out = model(inputs)
        out.square().sum().backward()
        results.append(out)
    assert torch.equal(*results)
    for key, value in module.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key
    gradients = {name: p.grad for name, p in twin.named_parameters(remove_duplicate=False)}
    for key, parameter in module.named_parameters():
        assert torch.equal(parameter.grad, gradients[key]), key


def test_weights_go_back_into_the_module_they_came_from() -> None:
    module, inputs, _ = family("cnn")
    artifact = exported("cnn")
    twin = trainable(load_graph(artifact.graph), artifact.weights)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    for _ in range(3):
        twin.train()(inputs).square().mean().backward()
        optimizer.step()
    again = trainable(load_graph(artifact.graph), twin.to_weights()).eval()
    fresh = CNN()
    fresh.load_state_dict(twin.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs), twin.eval()(inputs))
        assert torch.equal(again(inputs), twin(inputs))
        assert not torch.equal(module.eval()(inputs), twin(inputs))
    assert fresh.b1.num_batches_tracked.item() == module.b1.num_batches_tracked.item() + 3


def test_export_leaves_the_module_as_it_was() -> None:
    module, inputs, _ = family("cnn")
    module.train()
    module.b1.eval()
    before = copy.deepcopy(module.state_dict())
    export_model(module, inputs[:1])
    assert module.training and not module.b1.training and module.c1.training
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in before.items())


def test_the_same_module_has_the_same_graph() -> None:
    assert exported("cnn") == export_model(family("cnn")[0], family("cnn")[1][:9])


def test_constants_are_fixed_and_shared_weights_stand_once() -> None:
    document = json.loads(exported("shared").graph)
    kinds = {s["name"]: s["kind"] for s in document["state"]}
    assert kinds["shift"] == "buffer" and kinds["spread"] == "constant"
    assert sum(kind == "constant" for kind in kinds.values()) == 2
    assert document["aliases"] in ({"second.weight": "first.weight"}, {"first.weight": "second.weight"})
    twin = trainable(load_graph(exported("shared").graph))
    assert twin.get_parameter("first.weight") is twin.get_parameter("second.weight")
    SharedWeights().load_state_dict(twin.state_dict())


CHANGES_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "the changed name is used": lambda x: x.mul_(2.0) + x,
    "the old name is used": lambda x: (x.add_(1.0), x * 3.0)[1],
    "twice": lambda x: F.relu(x.add_(1.0), inplace=True) + x.mul_(0.5),
    "augmented": lambda x: _augmented(x),
    "a part of a copy": lambda x: _shifted(x),
    "parts of parts": lambda x: _parts_of_parts(x),
    "a number into a part": lambda x: _numbered(x),
    "a part that is scaled": lambda x: _scaled(x),
    "view that is not used again": lambda x: x.view(-1, 2, 2).add_(1.0).flatten(1),
}


def _shifted(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, 1:] = x[:, :-1]
    return y + x


def _parts_of_parts(x: Tensor) -> Tensor:
    y = x.view(-1, 2, 2).clone()
    y[:, 0, 1:] = x[:, :1] * 2.0
    y[:, 1][:, 0] = x[:, 3]
    return y.flatten(1)


def _numbered(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = 7.0
    y[..., -1:].fill_(2.0)
    y[:, 1] = torch.tensor(3.0)
    return y


def _scaled(x: Tensor) -> Tensor:
    y = x * 1.0
    y[:, :2] *= 3.0
    y[:, ::2] += x[:, 2:]
    return y


def _augmented(x: Tensor) -> Tensor:
    y = x * 2.0
    z = y
    y += 1.0
    return y + z


@pytest.mark.parametrize("kind", CHANGES_IN_PLACE)
def test_changes_in_place_keep_their_meaning(kind: str) -> None:
    module = Function(CHANGES_IN_PLACE[kind])
    inputs = torch.randn(5, 4)
    artifact = export_model(module, inputs)
    graph = load_graph(artifact.graph)
    assert not any(op.split(".")[1].endswith("_") for op in graph.operators())
    with torch.no_grad():
        expected = module.eval()(inputs)
        assert torch.equal(trainable(graph, artifact.weights).eval()(inputs), expected)
        exact = exact_model(graph, artifact.weights).run(inputs)[0]
    assert torch.allclose(exact, expected.double(), atol=1e-5)


def test_a_change_in_place_seen_through_a_view_is_refused_or_kept() -> None:
    def through_a_view(x: Tensor) -> Tensor:
        y = x * 2.0
        v = y.view(-1, 2, 2)
        y.add_(1.0)
        return v.flatten(1)

    with pytest.raises(UnsupportedOperator, match=r"test_writer\.py:\d+"):
        export_model(Function(through_a_view), torch.randn(5, 4))


def test_a_change_of_a_part_that_another_part_would_see_is_refused() -> None:
    def seen_twice(x: Tensor) -> Tensor:
        y = x * 2.0
        first = y[:, :2]
        y[:, 1] = 0.0
        return first

    with pytest.raises(UnsupportedOperator, match=r"used through a view.*test_writer\.py:\d+"):
        export_model(Function(seen_twice), torch.randn(5, 4))


def test_a_part_of_the_batch_is_not_assigned() -> None:
    def assigned(x: Tensor) -> Tensor:
        y = x * 2.0
        y[:1] = 0.0
        return y

    with pytest.raises(BatchMixing, match="cut the batch"):
        export_model(Function(assigned), torch.randn(5, 4))


def test_a_change_of_the_input_is_refused() -> None:
    class Changes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2.0)

    with pytest.raises(UnsupportedOperator, match="may not change inputs"):
        export_model(Changes(), torch.randn(5, 4))


def test_an_unsupported_operator_is_named_with_the_users_line() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2.0
            return torch.lgamma(y)  # the line that is named

    with pytest.raises(UnsupportedOperator) as caught:
        export_model(Model(), torch.randn(3, 4))
    assert caught.value.operator == "aten.lgamma.default"
    text = str(caught.value)
    assert "test_writer.py" in text and "return torch.lgamma(y)  # the line that is named" in text


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda x: x - x.mean(0, keepdim=True), BatchMixing, "reduce the batch"),
        (lambda x: x[:1] + x, BatchMixing, "cut the batch"),
        (lambda x: x if x.sum() > 0 else -x, ExportFailed, "branches on the numbers of a tensor; use torch.where"),
        (lambda x: x.flip(0), BatchMixing, "move examples"),
        (lambda x: x * x.shape[0], BatchMixing, "size"),
        (lambda x: x.view(2, -1), ExportFailed, "fixes the batch's size"),
        (lambda x: F.softmax(x, 0), BatchMixing, "batch"),
        (lambda x: F.batch_norm(x, None, None, training=True), UnsupportedOperator, "without running statistics"),
        (lambda x: {"out": x, "more": x}, ExportFailed, r"several results by name.*seen: out, more"),
        (lambda x: (x, 3), ExportFailed, "a tuple of tensors"),
        (lambda x: None, ExportFailed, "must return a tensor"),
        (lambda x: x * torch.empty(x.shape[0], 1).bernoulli_(0.5), ExportFailed, r"F.dropout\(x, p, self.training\)"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_a_reason(function: Callable, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        export_model(Function(function), torch.randn(6, 4))


def test_a_refusal_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportFailed) as caught:
        export_model(Function(lambda x: x if x.sum() > 0 else -x), torch.randn(6, 4))
    assert "\n" not in str(caught.value) and "test_writer.py" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_inputs_need_a_batch() -> None:
    with pytest.raises(ShapeMismatch):
        export_model(Function(lambda x: x), torch.tensor(1.0))
    with pytest.raises(ShapeMismatch):
        export_model(Function(lambda x: x), ())


@pytest.mark.parametrize(
    ("function", "operator", "advice"),
    [
        (lambda x: torch.fft.rfft(x.repeat(1, 600)).abs(), "aten.fft_rfft.default", "up to 2048 values"),
        (lambda x: x + torch.randn_like(x), "aten.randn_like.default", "nn.Dropout"),
        (lambda x: F.max_pool1d(x[:, None], 2, return_indices=True)[0], "with_indices", "return_indices=False"),
        (lambda x: torch.stft(x, 4, window=torch.ones(4), return_complex=True).abs()[..., 0], "stft", "nn.Conv1d"),
        (lambda x: x * torch.bernoulli(x.sigmoid()), "bernoulli", "random"),
        (lambda x: torch.linalg.inv(x.unflatten(1, (2, 2))).flatten(1), "linalg_inv", "no rule"),
        (lambda x: F.grid_sample(x.view(-1, 1, 2, 2), x.view(-1, 1, 2, 2), "bicubic"), "grid_sampler", "bilinear"),
        (lambda x: torch.atan2(x, x), "atan2", "sines"),
        (
            lambda x: F.interpolate(x[:, None, None], (2, 8), mode="bicubic", antialias=True)[:, 0, 0],
            "_aa",
            "antialias",
        ),
        (lambda x: torch.cdist(x[:, None], x[:, None], 3.0)[:, 0], "aten.cdist.default", "write it out"),
    ],
)
def test_an_unsupported_operator_comes_with_advice(function: Callable, operator: str, advice: str) -> None:
    with pytest.raises(UnsupportedOperator, match=advice) as caught:
        export_model(Function(function), torch.randn(5, 4))
    assert operator in caught.value.operator and "test_writer.py" in caught.value.where


FIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "a range": lambda x: x * torch.linspace(0.0, 1.0, 4),
    "a cast": lambda x: x + torch.arange(4.0).div(1.7).long(),
    "a mask filled place by place": lambda x: x.masked_fill(_mask() > 1.0, 0.5),
    "a buffer that is read": lambda x: x[:, (torch.linspace(0, 3, 3) + 0.5).long()].repeat(1, 2)[:, :4],
    "a copy before it changes": lambda x: _before_and_after(x),
}


def _mask() -> Tensor:
    mask = torch.zeros(4)
    mask[1:3] = 1.5
    mask[2] += 1.0
    return mask


def _before_and_after(x: Tensor) -> Tensor:
    mask = torch.linspace(0.0, 1.0, 4)
    first = x * mask.clone()
    mask[1] = 7.0
    return first + x * mask


@pytest.mark.parametrize("name", FIXED)
def test_what_depends_on_nothing_becomes_a_constant(name: str) -> None:
    module, inputs = Function(FIXED[name]), torch.randn(5, 4)
    artifact = export_model(module, inputs)
    graph = load_graph(artifact.graph)
    assert any(s.kind == "constant" for s in graph.state)
    model = trainable(graph, artifact.weights).eval()
    assert torch.equal(model(inputs), module(inputs)) and set(model.state_dict()) == set(module.state_dict())
    assert torch.allclose(exact_model(graph, artifact.weights).run(inputs)[0], module(inputs).double(), atol=1e-5)


def test_a_constant_that_changes_between_two_uses_is_refused() -> None:
    def changing(x: Tensor) -> Tensor:
        mask = torch.linspace(0.0, 1.0, 4)
        first = x * mask
        mask[1] = 7.0
        return first + x * mask

    with pytest.raises(ExportFailed, match="changes between two uses"):
        export_model(Function(changing), torch.randn(5, 4))


def test_random_numbers_are_no_constants() -> None:
    with pytest.raises(UnsupportedOperator, match="random"):
        export_model(Function(lambda x: x + torch.randn(4)), torch.randn(5, 4))


@pytest.mark.parametrize(
    ("function", "operators"),
    [
        (lambda x: torch.diff(x, dim=1), {"slice", "sub"}),
        (lambda x: torch.hstack([x, x]), {"cat"}),
        (lambda x: F.softmin(x, 1), {"neg", "softmax"}),
        (lambda x: F.pairwise_distance(x[:, None], x[:, None] * 2.0), {"sub", "add", "linalg_vector_norm"}),
    ],
)
def test_what_the_whitelist_lacks_is_taken_apart(function: Callable, operators: set[str]) -> None:
    module = Function(function)
    inputs = torch.randn(5, 4)
    graph = load_graph((artifact := export_model(module, inputs)).graph)
    assert operators <= {name.split(".")[1] for name in graph.operators()}
    (out,) = exact_model(graph, artifact.weights).run(inputs)
    assert torch.allclose(out, module(inputs).double(), atol=1e-5)
    assert torch.allclose(trainable(graph, artifact.weights)(inputs), module(inputs), atol=1e-6)


def test_recurrent_projections_are_refused() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(4, 6, proj_size=3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[0]

    with pytest.raises(ShapeMismatch, match="projections have no exact rule"):
        export_model(Projected(), torch.randn(5, 3, 4))


def test_long_sequences_are_exported_at_once() -> None:
    """A recurrent layer is one node, however long the sequence is, and torch's own kernels are as before."""
    before = dict(torch.ops.aten.lstm.input.py_kernels)
    layer = nn.GRU(4, 6, batch_first=True)

    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[0]

    artifact = export_model(Long(), torch.randn(5, 3000, 4))
    assert len(json.loads(artifact.graph)["nodes"]) < 10
    assert torch.ops.aten.lstm.input.py_kernels == before


def test_two_inputs_are_one_model() -> None:
    class Two(nn.Module):
        def forward(self, words: Tensor, mask: Tensor) -> Tensor:
            return (F.one_hot(words, 5).float() * mask[..., None].float()).sum(1)

    words, mask = torch.randint(0, 5, (6, 7)), torch.randint(0, 2, (6, 7))
    graph = load_graph((artifact := export_model(Two(), (words, mask))).graph)
    (out,) = exact_model(graph, artifact.weights).run(words, mask)
    assert torch.equal(out, Two()(words, mask).double())


def test_calls_that_differ_in_a_literal_or_a_shape_are_traced_apart() -> None:
    """Calls alike are traced once, so a deep model loads quickly; a later one that is wrong is still found."""

    def graph(*indices: int) -> bytes:
        data, _ = one_call("aten.relu.default", (4, 6), [X])
        document = json.loads(data)
        document["nodes"] += [{"op": "aten.select.int", "args": [{"$": 1}, 1, i], "kwargs": {}} for i in indices]
        document["nodes"].append({"op": "aten.select.int", "args": [{"$": 2}, 1, 5], "kwargs": {}})
        document["outputs"] = [1 + len(indices), 2 + len(indices)]
        return encode_graph(document)

    assert [o.shape for o in load_graph(graph(0, 1, 1, 3)).outputs] == [(6,), ()]
    with pytest.raises(ShapeMismatch, match="node 4"):
        load_graph(graph(0, 1, 1, 4))
