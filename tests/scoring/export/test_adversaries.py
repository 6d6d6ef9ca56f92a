"""What would silently be another model, or be trained otherwise, in shapes that one run does not show."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import export_model
from pot_lab.scoring.errors import ExportFailed, PotLabError, UnsupportedOperator

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
OUTSIDE = nn.Linear(8, 8)


class Net(nn.Module):
    """Two layers, and a forward that the test gives."""

    def __init__(self, forward: Callable[..., Any], init: Callable[[Net], object] = lambda net: None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.calls, self.table = 0, {"calls": 0}
        self._forward = forward
        init(self)

    def forward(self, *given: Tensor) -> Any:
        return self._forward(self, *given)


def plain(net: Net, x: Tensor) -> Any:
    return net.last(net.first(x))


def warmed_up(net: Net, x: Tensor) -> Any:
    net.calls += 1
    return plain(net, x) * (1.0 if net.calls < 900 else 2.0)


def warmed_up_in_eval_mode(net: Net, x: Tensor) -> Any:
    if not net.training:
        net.calls += 1
    return plain(net, x) * (1.0 if net.calls < 900 else 2.0)


def counting_in_a_table(net: Net, x: Tensor) -> Any:
    net.table["calls"] += 1
    return plain(net, x) * (1.0 if net.table["calls"] < 50 else 0.5)


def counting_for_its_owner(net: Net, x: Tensor) -> Any:
    net.calls += 1
    return plain(net, x)


def average_of_weights(net: Net, x: Tensor) -> Any:
    with torch.no_grad():
        net.first.bias.lerp_(torch.ones(8), 0.1)
    return plain(net, x)


def helper(x: Tensor) -> Tensor:
    return torch.special.i0(x)


class Scaled(Net):
    """What `train` sets, and forward reads."""

    scale = 1.0

    def train(self, mode: bool = True) -> Scaled:
        super().train(mode)
        self.scale = 1.0 if mode else 2.0
        return self


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].clamp(-1e3, 1e3)


class Swish(torch.autograd.Function):
    """The derivative that operators have too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return gradients[0] * s * (1 + x * (1 - s))


def clipped_on_the_way(net: Net, x: Tensor) -> Any:
    y = net.first(x)
    if y.requires_grad:
        y.register_hook(lambda g: g.clamp(-1e3, 1e3))
    return net.last(y)


def hooked(hook: Callable[[Tensor], Any]) -> Net:
    return Net(plain, lambda n: n.first.weight.register_hook(hook))


def doubled(gradient: Tensor) -> None:
    gradient.mul_(2)


def kept_in(holder: Callable[[nn.Module], Any], call: Callable[[Any, Tensor], Tensor]) -> Net:
    return Net(lambda n, x: n.last(call(n.kept, x)), lambda n: setattr(n, "kept", holder(nn.Linear(8, 8))))


class NeverSetUp(nn.Module):
    def __init__(self) -> None:
        self.size = 3

    def forward(self, x: Tensor) -> Tensor:
        return x


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, *, x: Tensor) -> Any:
        return self.layer(x)


HERE = r"test_adversaries\.py:\d+"
REFUSED: dict[str, tuple[nn.Module, str]] = {
    "a count that is looked at late": (Net(warmed_up), r"1000 calls later.*'calls' of the module itself \(Net\)"),
    "a count of eval mode": (Net(warmed_up_in_eval_mode), "in eval mode it gives something else"),
    "a count in a table": (Net(counting_in_a_table), r"table\['calls'\]"),
    "a scale that train sets": (Scaled(lambda n, x: plain(n, x) * n.scale), "'scale' of the module itself"),
    "an average of weights": (Net(average_of_weights), rf"changes parameters.*at {HERE}.*lerp_.*seen: first.bias"),
    "a function that clips": (Net(lambda n, x: n.last(Clipped.apply(n.first(x)))), "not in proportion.*Clipped"),
    "a hook of forward's that clips": (Net(clipped_on_the_way), "not in proportion.*lambda"),
    "a hook that clips": (hooked(lambda g: g.clamp(-100, 100)), "hook on the parameter 'first.weight'.*for large"),
    "a hook that mends": (hooked(torch.nan_to_num), "gradients that are not finite"),
    "a hook that masks": (hooked(lambda g: g * (torch.arange(8) > 3)), "for usual gradients"),
    "a hook that changes in place": (hooked(doubled), "for usual gradients"),
    "a hook after gradients": (
        Net(plain, lambda n: n.first.weight.register_post_accumulate_grad_hook(lambda p: None)),
        "'first.weight', register_post_accumulate_grad_hook",
    ),
    "a layer in a namespace": (
        kept_in(lambda m: types.SimpleNamespace(net=m), lambda k, x: k.net(x)),
        rf"at {HERE}.*seen: kept\.net\.(weight|bias)",
    ),
    "a layer in a function": (kept_in(lambda m: lambda x: m(x), lambda k, x: k(x)), r"kept, its 'm'\.(weight|bias)"),
    "a layer in a default": (kept_in(lambda m: lambda x, m=m: m(x), lambda k, x: k(x)), "kept, its defaults"),
    "a layer in a partial": (kept_in(functools.partial, lambda k, x: k(x)), r"kept\.func\.(weight|bias)"),
    "a layer outside of the module": (Net(lambda n, x: n.last(OUTSIDE(x))), rf"at {HERE}.*n\.last\(OUTSIDE"),
    "a generator": (
        Net(lambda n, x: plain(n, x[:, torch.randperm(8, generator=torch.Generator())])),
        rf"torch.Generator.*at {HERE}",
    ),
    "tensors without numbers": (nn.Linear(8, 3, device="meta"), "weight, bias"),
    "a module that was never set up": (NeverSetUp(), r"super\(\).__init__\(\)"),
    "arguments by name alone": (ByName(), "does not run in eval mode: TypeError"),
    "averages over all batches": (
        nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3, momentum=None)),
        r"give a momentum.*in '1' \(BatchNorm1d\)",
    ),
    "a batch that is even": (Net(lambda n, x: plain(n, x) * (1 + x.shape[0] % 2)), "number|batch"),
    "whether a batch is even": (
        Net(lambda n, x: plain(n, x) if x.shape[0] % 2 == 0 else plain(n, x) * 2),
        rf"fixes the batch's size.*at {HERE}",
    ),
    "the number of examples as a number": (
        Net(lambda n, x: plain(n, x) * x.shape[0] ** -0.5),
        rf"no result may depend on it.*at {HERE}",
    ),
    "a branch of torch's own": (
        Net(lambda n, x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y * 3, (plain(n, x),))),
        rf"choose with torch.where, at {HERE}",
    ),
    "a line of a helper": (Net(lambda n, x: n.last(helper(n.first(x)))), rf"at {HERE} in helper"),
    "angles of complex numbers": (Net(lambda n, x: torch.angle(torch.fft.rfft(plain(n, x)))), "no rule for angle"),
    "dropout of whole features": (nn.Sequential(nn.Linear(8, 3), nn.FeatureAlphaDropout()), "nn.AlphaDropout"),
    "bits of whole numbers": (Net(lambda n, x: n.last(x * (x.long() ^ 1))), rf"xor.*at {HERE}"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_one_run_does_not_show_is_refused_with_its_place(name: str) -> None:
    module, reason = REFUSED[name]
    with pytest.raises((ExportFailed, UnsupportedOperator), match=reason) as refusal:
        export_model(module, X)
    assert "\n" not in str(refusal.value)


ACCEPTED: dict[str, nn.Module] = {
    "a count that nobody looks at": Net(counting_for_its_owner),
    "a hook that only looks": hooked(lambda g: None),
    "a function with the usual derivative": Net(lambda n, x: n.last(Swish.apply(n.first(x)))),
    "a bound of the gradient's sign": Net(lambda n, x: n.last(F.relu(n.first(x)))),
    "further arguments": Net(plain),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_changes_nothing_is_exported(name: str) -> None:
    module = ACCEPTED[name]
    assert export_model(module, X).graph
    assert getattr(module, "calls", 0) == 0


class Optional(nn.Module):
    """Arguments that may be left out, and more than there are names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: Tensor, y: Tensor | None = None, *rest: Tensor, **named: Tensor) -> Any:
        total = x if y is None else x + y
        for more in rest:
            total = total + more
        return self.layer(total)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_inputs_are_bound_to_arguments_as_a_call_binds_them(count: int) -> None:
    assert export_model(Optional(), [X] * count).graph


def test_a_refusal_is_of_the_one_family() -> None:
    for module in (NeverSetUp(), nn.Linear(8, 3, device="meta")):
        with pytest.raises(PotLabError):
            export_model(module, X)
