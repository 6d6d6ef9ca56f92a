"""Whose random numbers they are: those of a forward are refused, those of other threads are not its fault."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import export_model
from pot_lab.scoring.errors import ExportFailed, UnsupportedOperator
from pot_lab.scoring.export.culprits import drawing_part
from pot_lab.scoring.export.draws import Draws, python_draws
from pot_lab.scoring.export.rewriting import DrawingMode

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers, and what happens between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.dropout, self.last = nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 3)
        self.between = between

    def forward(self, x: Tensor) -> Any:
        return self.last(self.between(self, self.first(x)))


def elsewhere(draw: Callable[[], object]) -> None:
    """What another thread does meanwhile, at this very moment."""
    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()


def beside(draw: Callable[[], object]) -> Callable[[nn.Module, Tensor], Tensor]:
    def between(net: Any, x: Tensor) -> Tensor:
        x = net.dropout(x)
        elsewhere(draw)
        return net.dropout(x)  # type: ignore[no-any-return]

    return between


def once(draw: Callable[[], object], runs: int) -> Callable[[], object]:
    """A draw in some of the runs only, as of a thread that goes its own way."""
    left = [runs]

    def drawn() -> None:
        left[0] -= 1
        if left[0] >= 0:
            draw()

    return drawn


OTHERS: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.rand(3),
    "python": random.random,
    "numpy, now and then": once(lambda: np.random.rand(3), 2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_thread_that_draws_meanwhile_is_not_the_models_fault(name: str) -> None:
    assert export_model(Net(beside(OTHERS[name])), X).graph


def test_a_drop_path_is_compared_though_another_thread_draws() -> None:
    def between(net: Any, x: Tensor) -> Tensor:
        elsewhere(lambda: torch.rand(3))
        return x / 0.75 * (0.75 + torch.rand(x.shape[0], 1)).floor_() if net.training else x

    assert export_model(Net(between), X).graph


def forked(net: nn.Module, x: Tensor) -> Tensor:
    """Puts the generator back, so that its state tells nothing."""
    with torch.random.fork_rng([]):
        return x + torch.randn(8)


OWN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "noise": lambda n, x: x + torch.randn_like(x),
    "dropout": lambda n, x: F.dropout(x, 0.5),
    "attention": lambda n, x: F.scaled_dot_product_attention(*[x.unsqueeze(1)] * 3, dropout_p=0.5).squeeze(1),
    "a forked generator": forked,
    "a generator of its own": lambda n, x: x + torch.rand(8, generator=torch.Generator().manual_seed(3)),
    "whole numbers": lambda n, x: x * torch.empty(8).random_(5),
    "an order": lambda n, x: x[:, torch.randperm(8)],
}


@pytest.mark.parametrize("name", OWN)
def test_what_forward_draws_in_eval_mode_is_refused_with_its_line(name: str) -> None:
    with pytest.raises(
        (ExportFailed, UnsupportedOperator), match=r"(random numbers|Generator).*, at test_draws.py:\d+ in"
    ):
        export_model(Net(OWN[name]), X)
    net = Net(OWN[name]).eval()
    with Draws() as draws, torch.no_grad():
        net(X)
    assert draws.calls == 1 and "test_draws.py" in draws.place
    assert drawing_part(net, (X,)) == ", in the module itself (Net)"


@pytest.mark.parametrize("draw", [random.random, lambda: random.choice([1, 2]), lambda: np.random.rand(2)])
def test_what_forward_draws_from_python_or_numpy_is_refused(draw: Callable[[], object]) -> None:
    def between(net: nn.Module, x: Tensor) -> Tensor:
        draw()
        return x

    with pytest.raises(ExportFailed, match=r"Python's `random` or NumPy.*in the module itself \(Net\)"):
        export_model(Net(between), X)


@contextlib.contextmanager
def profiled() -> Iterator[None]:
    sys.setprofile(lambda frame, event, argument: None)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_beside_another_profiler_the_state_of_pythons_generator_tells() -> None:
    with profiled():
        other = sys.getprofile()
        with python_draws() as lines:
            random.random()
        assert lines == [""] and sys.getprofile() is other
        with python_draws() as lines:
            random.getstate()
        assert not lines
    with python_draws() as lines:
        random.getstate()
        random.Random(3).random()
    assert not lines and sys.getprofile() is None


NOTHING: dict[str, Callable[[Tensor], object]] = {
    "dropout in eval mode": lambda x: F.dropout(x, 0.5, False),
    "rrelu in eval mode": F.rrelu,
    "attention": lambda x: F.scaled_dot_product_attention(*[x.view(1, 1, 6, 8)] * 3),
    "a recurrent layer": lambda x: nn.LSTM(8, 8, 2, dropout=0.5).eval()(x),
    "whole examples, all kept": lambda x: x * x.new_empty(6, 1).bernoulli_(1.0),
}


@pytest.mark.parametrize("name", NOTHING)
def test_operators_that_may_draw_and_do_not_leave_nothing_to_chance(name: str) -> None:
    layer = nn.LSTM(8, 8, 2, dropout=0.5).eval()
    with torch.no_grad(), Draws() as draws:
        layer(X) if name == "a recurrent layer" else NOTHING[name](X)
    assert not draws.calls and not draws.disturbed


def test_the_innermost_part_that_draws_is_named_though_others_draw_before() -> None:
    net = nn.Sequential(nn.Linear(8, 8), Net(beside(lambda: torch.rand(3))), nn.Dropout(0.5)).train()
    net[1].eval()
    assert drawing_part(net, (X,)) == ", in '2' (Dropout)"


def test_draws_of_one_seed_are_the_same_whoever_draws_beside() -> None:
    def run(meanwhile: Callable[[], object]) -> Tensor:
        with Draws(torch.Generator().manual_seed(4)) as draws, DrawingMode((0.5,)):
            first, _, second = F.dropout(X, 0.5), elsewhere(meanwhile), (0.5 + torch.rand(6, 1)).floor_()
        assert draws.calls == 2
        return first * second

    assert torch.equal(run(lambda: None), run(lambda: torch.rand(5)))
