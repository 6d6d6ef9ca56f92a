"""What `Lab.order` is given, against its units: each refusal names the likely meaning, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pot_lab.chain.errors import ChainUnreachable, InsufficientBalance
from pot_lab.errors import PotLabError
from pot_lab.notebook import arguments, paying
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.lab import Lab
from pot_lab.protocol.cycle import Window
from tests.notebook.in_process import WALLET_GRAINS, FollowedWorld, lab_of

X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3


@pytest.fixture
def world() -> FollowedWorld:
    return FollowedWorld()


@pytest.fixture
def lab(world: FollowedWorld, tmp_path: Path) -> Iterator[Lab]:
    with lab_of(world, tmp_path) as lab:
        yield lab


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"baseline": 90}, "a share: 0.9 for 90 %"),
        ({"baseline": 1.5}, "a share: 0.015 for 1.5 %"),
        ({"baseline": 9_000}, "a share between 0 and 1"),
        ({"baseline": 1.0}, "the best score possible is 1"),
        ({"baseline": 0.99, "margin": 0.02}, "the best score possible is 1"),
        ({"baseline": -0.1}, "0 or more"),
        ({"margin": 5}, "a share: 0.05 for 5 %"),
        ({"margin": -0.1}, "0 or more"),
        ({"score": "cross_entropy", "baseline": 0.5}, "micro-nats: 500000 for 0.5 nats"),
        ({"score": "cross_entropy", "baseline": 0}, "the best score possible is 0"),
        ({"score": "cross_entropy", "margin": 0.01}, "micro-nats: 10000 for 0.01 nats"),
        ({"score": "macro_f1[classes=3]", "baseline": 0.9}, "millionths: 900000 for 0.9"),
        ({"score": "macro_f1[classes=3]", "baseline": 90}, "millionths: 900000 for 0.9"),
        ({"score": "mse", "baseline": 0.02}, r"units of 10\^-6: 20000 for 0.02"),
        ({"score": "mse[decimals=3]", "baseline": 0.5}, r"units of 10\^-3: 500 for 0.5"),
        ({"score": len}, "a name such as"),
        ({"title": None}, "`title` is not text"),
        ({"tags": "digits"}, r"a list: \['digits'\]"),
        ({"tags": [1]}, "`tags` is not a list of texts"),
        ({"reward": 0.001}, r"`reward` is below the network's minimum \(seen: 0.001 POT, wanted: at least 0.01 POT"),
        ({"fee": 0}, "`fee` is below .* wanted: at least 0.01 POT"),
        ({"reward": 25 * 10**9}, "POT, not grains: 25"),
        ({"train_for": 9_000_000_000}, "bounds .seen: 9000000000 s, wanted: 1 s .. 240 h 0 min.$"),
        ({"train_for": 3_600_000}, "a number counts seconds: 3600 for 3600000 ms"),
        ({"train_for": "0.5s"}, "seen: 0.5 s, wanted: 1 s"),
        ({"windows": "30s"}, "`windows` is not a dict"),
        ({"model": nn.Linear}, r"an instance, e.g. Linear\(\)"),
    ],
)
def test_an_argument_in_another_unit_is_refused_with_the_likely_meaning(
    lab: Lab, net: nn.Module, given: dict[str, Any], meant: str
) -> None:
    with pytest.raises(PotLabError, match=meant):
        lab.order(**{"model": net, "train": (X, Y), "test": (X, Y), "reward": 5, "train_for": "10s", **given})
    assert lab.orders(everybody=True) == []
    assert lab.chain_wallet.grains == WALLET_GRAINS
    assert not list(Path(lab.config.store_url).glob("?" * 64))


@pytest.mark.parametrize(
    ("score", "baseline", "margin"),
    [
        ("accuracy", 0, 0),
        ("accuracy", 0.99, 0.01),
        ("top_k_accuracy", Fraction(1, 3), 0.5),
        ("macro_f1[classes=3]", 900_000, 1_000),
        ("cross_entropy", 500_000, 1_000),
        ("perplexity", 50_000_000, 0),
        ("mse", 20_000, 100),
        ("mae[decimals=0]", 2, 1),
    ],
)
def test_what_is_in_the_functions_unit_is_taken(score: str, baseline: float, margin: float) -> None:
    arguments.check_baseline(score, 1, baseline, margin)


def test_a_perplexity_is_written_as_the_loss_that_it_stands_for() -> None:
    with pytest.raises(BadArgument, match="2302585 for a perplexity of 10"):
        arguments.check_baseline("perplexity", 1, 10)


# --- paid once ---------------------------------------------------------------------------------------------------
class FailingNode:
    """A wallet whose node fails after, or before, it took the payment."""

    def __init__(self, wallet: Any, *, taken: bool, problem: PotLabError | None = None) -> None:
        self.wallet, self.taken, self.placed, self.asked = wallet, taken, 0, 0
        self.problem = problem or ChainUnreachable("the chain's node is overloaded: HTTP 429")

    def balance_grains(self) -> int:
        return int(self.wallet.balance_grains())

    def place_order(self, *terms: Any) -> Any:
        self.placed += 1
        if self.taken:
            self.wallet.place_order(*terms)
        raise self.problem

    def escrowed_grains(self, order: bytes) -> int:
        self.asked += 1
        if self.asked == 1:
            raise ChainUnreachable("the chain's node is overloaded: HTTP 429")
        return 1 if self.taken else 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paying, "PAYMENT_SEEN_S", 0.05)
    monkeypatch.setattr(paying, "ESCROW_RETRY_S", 0.001)


def test_a_node_that_fails_after_it_took_the_payment_still_gives_the_order(
    lab: Lab, world: FollowedWorld, net: nn.Module, quick: None
) -> None:
    lab._wallet = node = FailingNode(lab.chain_wallet, taken=True)
    order = lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s")
    assert node.placed == 1
    assert world.order(order.id).window is Window.COMMIT


def test_a_payment_that_is_not_seen_is_reported_with_the_order(lab: Lab, net: nn.Module, quick: None) -> None:
    lab._wallet = node = FailingNode(lab.chain_wallet, taken=False)
    with pytest.raises(ChainUnreachable, match=r"HTTP 429; it is not known .* `lab.get\('") as caught:
        lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s")
    (order,) = lab.orders()
    assert node.placed == 1 and order.id.hex() in caught.value.message


def test_a_payment_that_the_contract_refuses_is_not_looked_for(lab: Lab, net: nn.Module, quick: None) -> None:
    lab._wallet = node = FailingNode(lab.chain_wallet, taken=False, problem=InsufficientBalance("too little"))
    with pytest.raises(InsufficientBalance):
        lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s")
    assert node.asked == 0
