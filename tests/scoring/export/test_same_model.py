"""The graph is the module that the user has: in eval mode, in training mode, and parameter by parameter."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.notebook.posting import prepare
from pot_lab.scoring import export_model, load_graph, score, trainable
from pot_lab.scoring.errors import BadWeights, ExportFailed
from pot_lab.scoring.export import writer
from pot_lab.scoring.export.comparison import _AT_ONCE, _apart, _largest
from pot_lab.scoring.export.trial import run_once
from pot_lab.training import Trainer

X = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Net(nn.Module):
    """Two layers, and a forward that the test gives."""

    def __init__(
        self, forward: Callable[[Net, Tensor], Tensor], init: Callable[[Net], object] = lambda net: None
    ) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.count = 0
        self._forward = forward
        init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def plain(net: Net, x: Tensor) -> Tensor:
    return net.last(net.first(x))


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return -gradient


def counted(net: Net, x: Tensor) -> Tensor:
    net.count += 1
    return plain(net, x) * min(1.0, net.count / 100)


def set_up(net: Net, x: Tensor) -> Tensor:
    if not net.count:
        net.first.bias.data.copy_(x.mean(0))
        net.count = 1
    return plain(net, x)


def remembering(net: Net, x: Tensor) -> Tensor:
    before = getattr(net, "before", None)
    net.before = net.first(x).detach()
    return net.last(net.first(x) if before is None else net.first(x) + before)


def shared_data(net: Net) -> None:
    net.first.weight = nn.Parameter(net.more.weight.data)


OTHERS = {
    "a temperature in eval mode": (Net(lambda n, x: plain(n, x) if n.training else plain(n, x) / 4), "eval mode"),
    "probabilities in eval mode": (
        Net(lambda n, x: plain(n, x) if n.training else F.softmax(plain(n, x), -1)),
        "eval mode",
    ),
    "rounding in eval mode": (Net(lambda n, x: plain(n, x) if n.training else plain(n, x).round()), "eval mode"),
    "dropout in eval mode": (Net(lambda n, x: n.last(F.dropout(n.first(x)))), r"F.dropout\(x, p, self.training\)"),
    "an output more while training": (
        Net(lambda n, x: (plain(n, x), x) if n.training else plain(n, x)),  # type: ignore[arg-type, return-value]
        r"in training mode than in eval mode.*\(3, 3\), float32 \(3, 8\) in training mode",
    ),
    "gradients asked for": (
        Net(lambda n, x: plain(n, x) if torch.is_grad_enabled() else plain(n, x) * 2),
        r"is_grad_enabled|in the module itself \(Net\)",
    ),
    "weights set up on the first data": (Net(set_up), r"changes parameters.*seen: first.bias"),
    "a parameter that is expanded": (
        Net(lambda n, x: plain(n, x) * n.wide, lambda n: setattr(n, "wide", nn.Parameter(torch.ones(1).expand(3)))),
        r"the elements of 'wide' share memory",
    ),
    "a state that goes from call to call": (Net(remembering), "in training mode the module computes something else"),
    "a forward that counts its calls": (Net(counted), "counts in an attribute.*'count' of the module itself"),
    "Python's random numbers": (Net(lambda n, x: plain(n, x) * (1 if random.random() < 0.99 else 2)), "`random`"),
    "NumPy's random numbers": (Net(lambda n, x: plain(n, x) * (1 if np.random.rand() < 0.99 else 2)), "NumPy"),
    "a reversed gradient": (Net(lambda n, x: n.last(Reversed.apply(n.first(x)))), "gradient of 'first"),
    "a hook on a parameter": (
        Net(plain, lambda n: n.first.weight.register_hook(torch.zeros_like)),
        "hook on the parameter 'first.weight' changes its gradient",
    ),
    "a hook on a layer": (
        Net(plain, lambda n: n.last.register_full_backward_hook(lambda m, i, o: (i[0] * 2,))),
        "gradient of 'first.*with hooks on last",
    ),
    "a parameter in a table": (
        Net(lambda n, x: plain(n, x) * n.table["a"], lambda n: setattr(n, "table", {"a": nn.Parameter(torch.ones(3))})),
        r"ParameterList.*table\['a'\]",
    ),
    "layers in a tuple": (
        Net(lambda n, x: n.both[1](n.both[0](x)), lambda n: setattr(n, "both", (nn.Linear(8, 8), nn.Linear(8, 3)))),
        r"ModuleList.*both\[\d\]\.(weight|bias)",
    ),
    "layers in a list of lists": (
        Net(lambda n, x: n.nested[0]["a"](x), lambda n: setattr(n, "nested", [{"a": nn.Linear(8, 3)}])),
        r"nested\[0\]\['a'\]",
    ),
    "a parameter outside of the module": (Net(lambda n, x: plain(n, x) + OUTSIDE), r"shape \(3,\)"),
    "a view of a parameter": (
        Net(lambda n, x: x @ n.views[0], lambda n: setattr(n, "views", [n.last.weight.t()])),
        "share memory",
    ),
    "two parameters in one memory": (
        Net(lambda n, x: plain(n, n.more(x)), lambda n: (setattr(n, "more", nn.Linear(8, 8)), shared_data(n))),
        "'first.weight' and 'more.weight' share memory",
    ),
    "a buffer in a parameter's memory": (
        Net(lambda n, x: plain(n, x @ n.copy), lambda n: n.register_buffer("copy", n.first.weight.data)),
        "'copy' share memory|'copy' and 'first.weight' share memory",
    ),
}
OUTSIDE = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize("name", OTHERS)
def test_what_would_be_another_model_is_refused_with_the_reason(name: str) -> None:
    module, reason = OTHERS[name]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ExportFailed, match=reason):
        export_model(module, X)
    assert module.count == 0 and module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class Calibrated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        if not self.training:
            y = y / 4.0
        return y


def test_the_line_that_looks_at_the_mode_is_named() -> None:
    with pytest.raises(ExportFailed, match=r"at 0 \(Calibrated\), test_same_model.py:\d+: if not self.training:"):
        export_model(nn.Sequential(Calibrated()), X)


def test_without_the_comparison_another_model_would_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    module = OTHERS["a temperature in eval mode"][0].eval()
    monkeypatch.setattr(writer, "check_same_model", lambda *given: None)
    wanted = F.cross_entropy(module(X).double(), Y, reduction="sum").item()
    assert abs(score(module, X, Y, "cross_entropy").total / 1e6 - wanted) > 0.5
    module.train()


SAME = {
    "a straight-through sign": Net(lambda n, x: n.last((lambda h: h + (h.sign() - h).detach())(n.first(x)))),
    "a hook that only looks": Net(plain, lambda n: n.first.weight.register_hook(lambda gradient: None)),
    "a hook on outputs": Net(plain, lambda n: n.first.register_forward_hook(lambda m, i, out: out * 2)),
    "parameters in a list that are registered": Net(
        lambda n, x: F.linear(n.first(x), *n.pair), lambda n: setattr(n, "pair", [n.last.weight, n.last.bias])
    ),
    "a buffer in a table": Net(
        lambda n, x: plain(n, x) * n.table["scale"],
        lambda n: (n.register_buffer("scale", torch.full((3,), 2.0)), setattr(n, "table", {"scale": n.scale})),
    ),
    "a layer under two names": Net(
        lambda n, x: n.last(n.norm(n.again(x))),
        lambda n: (setattr(n, "norm", nn.BatchNorm1d(8)), setattr(n, "again", n.first), setattr(n, "other", n.norm)),
    ),
    "an expanded buffer": Net(
        lambda n, x: plain(n, x + n.wide),
        lambda n: n.register_buffer("wide", torch.ones(1).expand(8), persistent=False),
    ),
    "a mask kept for the next call": Net(lambda n, x: plain(n, kept_mask(n, x))),
    "two views of one buffer": Net(
        lambda n, x: plain(n, x + n.left + n.right),
        lambda n: (n.register_buffer("left", torch.ones(8)), n.register_buffer("right", n.left[:])),
    ),
    "parts of one memory": Net(
        lambda n, x: plain(n, x) + n.left.sum() * n.right.sum(),
        lambda n: (lambda w: (setattr(n, "left", nn.Parameter(w[:, :3])), setattr(n, "right", nn.Parameter(w[:, 3:]))))(
            torch.ones(4, 8)
        ),
    ),
    "parts that are assigned": Net(lambda n, x: _assigned(n, x)),
    "a head that forward does not use": Net(plain, lambda n: setattr(n, "old", nn.Linear(8, 9))),
    "columns put in order by a parameter": Net(
        lambda n, x: plain(n, x[:, n.order]),
        lambda n: setattr(n, "order", nn.Parameter(torch.arange(7, -1, -1), requires_grad=False)),
    ),
}


def kept_mask(net: Net, x: Tensor) -> Tensor:
    if getattr(net, "mask", None) is None:
        net.mask = torch.arange(x.shape[1]).float()
    return x * net.mask


def _assigned(net: Net, x: Tensor) -> Tensor:
    out = torch.zeros(x.size(0), 3)
    out[:, 0] = net.first(x)[:, 0]
    out[:, 1:] = net.last(x)[:, 1:]
    return out


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_model_is_trained_and_goes_back(name: str) -> None:
    module = SAME[name]
    artifact = export_model(module, X)
    trainer = Trainer(artifact.graph, artifact.weights, X, Y)
    trainer.train_until(steps=3)
    module.load_state_dict(trainer.model.state_dict())
    assert torch.allclose(module.eval()(X), trainer.model.eval()(X), rtol=1e-5)


def test_frozen_parameters_stay_as_they_are() -> None:
    module = Net(plain)
    module.first.requires_grad_(False)
    artifact = export_model(module, X)
    graph = load_graph(artifact.graph)
    assert {s.name: s.kind for s in graph.state} == {
        "first.weight": "frozen",
        "first.bias": "frozen",
        "last.weight": "parameter",
        "last.bias": "parameter",
    }
    assert graph.parameters_count == 27
    trainer = Trainer(graph, artifact.weights, X, Y)
    trainer.train_until(steps=3)
    assert torch.equal(trainer.model.get_parameter("first.weight"), module.first.weight)
    assert not trainer.model.get_parameter("first.weight").requires_grad
    changed = trainable(graph, artifact.weights)
    with torch.no_grad():
        changed.get_parameter("first.bias").add_(1.0)
    with pytest.raises(BadWeights, match=r"a frozen parameter of the model was changed \(seen: first.bias\)"):
        trainable(graph, changed.to_weights())


def test_a_part_that_its_owner_keeps_in_eval_mode_stays_there() -> None:
    class Kept(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Kept:
            return super().train(False)

    for norm in (nn.BatchNorm1d(8).eval(), Kept(8)):
        module = nn.Sequential(nn.Linear(8, 8), norm, nn.Dropout(0.5).eval(), nn.Linear(8, 3))
        artifact = export_model(module, X)
        twin = trainable(load_graph(artifact.graph), artifact.weights)
        assert torch.equal(twin.train()(X), module.eval()(X))
        assert torch.equal(twin.get_buffer("1.running_mean"), torch.zeros(8))
        module.load_state_dict(twin.state_dict())


def test_a_module_that_is_in_eval_mode_as_a_whole_is_trained_as_a_whole() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
    artifact = export_model(module, X)
    twin = trainable(load_graph(artifact.graph), artifact.weights)
    twin.train()(X)
    assert int(twin.get_buffer("1.num_batches_tracked")) == 1 and not module.training


def test_export_leaves_attributes_gradients_and_generators_as_they_were() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm, self.seen = nn.Linear(8, 3), nn.BatchNorm1d(3), []
            self.drop = nn.Dropout(0.5)
            self.layer.weight.grad = torch.ones(3, 8)

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(x.shape[1])
            self.latest = int(x.shape[1])
            return self.drop(self.norm(self.layer(x)))

    module = Remembering()
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    export_model(module, X)
    assert torch.equal(torch.rand(2), wanted)
    assert module.seen == [] and not hasattr(module, "latest")
    assert torch.equal(module.layer.weight.grad, torch.ones(3, 8)) and module.layer.bias.grad is None
    assert torch.equal(module.norm.running_mean, torch.zeros(3)) and int(module.norm.num_batches_tracked) == 0


@pytest.mark.parametrize("name", ["block1-0", "home address", "a/b:c", "(0,1)x", "n" * 250])
def test_names_of_columns_stay(name: str) -> None:
    if not name[0].isalnum():
        name = f"c{name}"
    module = Net(lambda n, x: sum(layer(x) for layer in n.columns.values()))  # type: ignore[arg-type, return-value]
    module.columns = nn.ModuleDict({name: nn.Linear(8, 3)})
    twin = trainable(load_graph(export_model(module, X).graph))
    assert set(twin.state_dict()) == set(module.state_dict())


@pytest.mark.parametrize("name", ["Größe", " age", "n" * 251, "a\nb", "<b>"])
def test_other_names_are_to_be_renamed(name: str) -> None:
    module = Net(lambda n, x: sum(layer(x) for layer in n.columns.values()))  # type: ignore[arg-type, return-value]
    module.columns = nn.ModuleDict({name: nn.Linear(8, 3)})
    with pytest.raises(ExportFailed, match="rename it"):
        export_model(module, X)


def test_lazy_layers_get_their_sizes_from_the_data() -> None:
    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Linear(6, 3))

    with pytest.raises(ExportFailed, match=r"run the module once on some examples \(seen: 0.weight"):
        export_model(lazy(), X)
    net = lazy()
    order = prepare(net, (X, Y), (X[:30].clone(), Y[:30].clone()), "accuracy")
    net.load_state_dict(trainable(load_graph(order.graph), order.weights).state_dict())


def test_containers_of_other_types_are_left_alone() -> None:
    class Strict(dict):
        def clear(self) -> None:
            raise TypeError("this table is never emptied")

    module = Net(plain, lambda n: setattr(n, "table", Strict(a=1)))
    export_model(module, X)
    assert module.table == {"a": 1}


class Padded(nn.Module):
    """Words, of which 0 is padding, through torch's own encoder."""

    def __init__(self, *, masked_mean: bool, nested: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.masked_mean = nn.Embedding(20, 8), masked_mean
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)

    def forward(self, words: Tensor) -> Tensor:
        padding = words == 0
        y = self.encoder(self.words(words), src_key_padding_mask=padding)
        if self.masked_mean:
            y = y.masked_fill(padding[..., None], 0.0)
        return y.mean(1)


def test_an_encoder_that_drops_padding_in_eval_mode_only_is_refused_where_that_shows() -> None:
    words = torch.randint(1, 20, (40, 7), generator=torch.Generator().manual_seed(0))
    words[20, 4:] = 0  # not among the first few
    with pytest.raises(ExportFailed, match=r"enable_nested_tensor=False.*seen: 'encoder'"):
        export_model(Padded(masked_mean=False), words)
    for module in (Padded(masked_mean=True), Padded(masked_mean=False, nested=False)):
        artifact = export_model(module, words)
        twin = trainable(load_graph(artifact.graph), artifact.weights).eval()
        with torch.no_grad():
            assert torch.allclose(twin(words), module.eval()(words), atol=1e-5)


def test_gradients_may_be_given_away_as_they_are_made() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False))
    module[1].weight = module[0].weight
    module[2].requires_grad_(False)
    rows = (torch.randn(3, 8),)
    kept = run_once(module, rows, training=True).gradients
    taken: dict[str, Tensor] = {}

    def take(name: str, gradient: Tensor) -> None:
        assert all(p.grad is None for p in module.parameters())
        taken[name] = gradient

    assert run_once(module, rows, training=True, take=take).gradients == dict.fromkeys(kept)
    assert taken.keys() == kept.keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert all(torch.equal(taken[name], kept[name]) for name in kept)
    assert all(not p._post_accumulate_grad_hooks for p in module.parameters())


@pytest.mark.parametrize("numel", [5, _AT_ONCE + 3])
def test_differences_are_found_wherever_they_are(numel: int) -> None:
    a, b = torch.zeros(numel), torch.zeros(numel)
    b[-1] = 2.0
    assert _largest(a, b) == 2.0 and _largest(a) == 0.0
    b[0] = torch.nan
    assert _largest(a, b) != _largest(a, b)
    a[-1] = 2.0
    assert _apart((a,), (b.nan_to_num(7.0),)) == "largest difference 7, largest number 2"
    assert _apart((a,), (b,)) == "numbers that are not finite in one of them only"
    assert not _apart((a,), (a.clone(),))
    assert _apart((a.long(),), (a.long() + 1,))
