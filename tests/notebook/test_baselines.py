"""What the winner must beat: the first weights and the best constant answer, scored exactly before an order is paid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from pot_lab.notebook.baselines import constant_total
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.lab import Lab
from pot_lab.protocol.parameters import Direction, score_direction
from pot_lab.protocol.records import ClaimScore, ScoreSpec
from pot_lab.protocol.rewards import beats_baseline
from pot_lab.scoring import score
from tests.notebook.in_process import WALLET_GRAINS, FollowedWorld, lab_of

X = torch.linspace(0, 1, 40).reshape(10, 4)
Y = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])


class Constant(nn.Module):
    """Gives one answer, of any shape, for every example."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True) * 0 + self.answer


@pytest.fixture
def world() -> FollowedWorld:
    return FollowedWorld()


@pytest.fixture
def lab(world: FollowedWorld, tmp_path: Path) -> Iterator[Lab]:
    with lab_of(world, tmp_path) as lab:
        yield lab


def test_first_weights_cannot_win_their_own_order(lab: Lab) -> None:
    with torch.no_grad():  # right in the second half: 6 of 10, better than any constant
        net = nn.Sequential(nn.Linear(4, 3))
        net[0].weight.zero_()
        net[0].bias.zero_()
        net[0].weight[0, 0], net[0].weight[1, 0], net[0].bias[0] = -1.0, 1.0, 1.0
    own = score(net, X, Y)
    assert own.total > 5
    record = lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s").view().order
    assert (record.baseline_total, record.baseline_count) == (own.total, 10)
    same = ClaimScore(total=own.total, count=10, valid=True)
    assert not beats_baseline(same, record.baseline_total, record.baseline_count, 0, Direction.HIGHER)
    assert beats_baseline(same, 0, 0, 0, Direction.HIGHER)  # as it was: any score wins


def test_a_constant_answer_cannot_win(lab: Lab) -> None:
    net = Constant(torch.tensor([0.0, 0.0, 9.0]))
    order = lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s")
    record = order.view().order
    assert (record.baseline_total, record.baseline_count) == (5, 10)
    assert "to beat    5 of 10" in repr(order)


def test_a_baseline_below_the_first_weights_is_refused_before_anything_is_paid(lab: Lab) -> None:
    net = Constant(torch.tensor([9.0, 0.0, 0.0]))
    with pytest.raises(BadArgument, match=r"would win themselves \(seen: 0.4, and 5 of 10 .* at least 0.5"):
        lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s", baseline=0.4)
    assert lab.chain_wallet.grains == WALLET_GRAINS and lab.orders() == []
    record = lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s", baseline=0.7).view().order
    assert (record.baseline_total, record.baseline_count) == (7, 10)


@pytest.mark.parametrize("margin", [0.0, 0.6])
def test_an_order_that_no_model_can_win_is_refused(lab: Lab, margin: float) -> None:
    targets = Y if margin else torch.zeros_like(Y)
    reason = "no model can win" if margin else "best for a model that always gives one answer"
    with pytest.raises(BadArgument, match=reason):
        lab.order(nn.Linear(4, 3), (X, Y), (X, targets), reward=5, train_for="10s", margin=margin)
    assert lab.chain_wallet.grains == WALLET_GRAINS


def test_first_weights_that_are_no_numbers_leave_the_constant_answer(lab: Lab) -> None:
    net = nn.Linear(4, 1)
    with torch.no_grad():
        net.weight.fill_(3e38)
        net.bias.zero_()
    targets = torch.arange(10.0).reshape(10, 1)
    train = torch.zeros_like(X), targets
    record = lab.order(net, train, (X, targets), reward=5, train_for="10s", score="mse").view().order
    assert record.baseline_total == 8_250_000 * 10


LOGITS = torch.tensor([0.5, 0.3, 0.2]).log()
TOKENS = torch.tensor([[0, 1, 2], [0, 0, -100], [1, -100, -100], [2, 0, 1]])


@pytest.mark.parametrize(
    ("name", "answer", "targets"),
    [
        ("accuracy", torch.tensor([1.0, 0.0, 0.0]), Y),
        ("top_k_accuracy[k=2]", torch.tensor([2.0, 1.0, 0.0]), Y),
        ("macro_f1[classes=3]", torch.tensor([1.0, 0.0, 0.0]), Y),
        ("cross_entropy", LOGITS, Y),
        ("mse", torch.tensor([4.5]), torch.arange(10.0).reshape(10, 1)),
        ("mae[decimals=3]", torch.tensor([4.0]), torch.arange(10.0).reshape(10, 1)),
    ],
)
def test_the_constant_answers_score_is_the_exact_one(name: str, answer: torch.Tensor, targets: torch.Tensor) -> None:
    exact = score(Constant(answer), X, targets, name).total
    assert abs(constant_total(ScoreSpec(name, 1), targets) - exact) <= 10
    worse = score(Constant(answer.flip(0) + 2 * (answer.numel() == 1)), X, targets, name).total
    assert (exact - worse) * (score_direction(name, 1) or 1) > 0


@pytest.mark.parametrize("name", ["next_token_loss", "perplexity"])
def test_tokens_that_do_not_count_are_left_out(name: str) -> None:
    each = [math.log(9 / n) for n in (4, 3, 2)]
    rows = [[each[t] for t in row if t >= 0] for row in TOKENS.tolist()]
    total = sum(sum(row) / (len(row) if name == "perplexity" else 1) for row in rows)
    assert sum(len(row) for row in rows) == 9 and len(rows) == 4
    assert constant_total(ScoreSpec(name, 1), TOKENS) == math.floor(total * 10**6)
