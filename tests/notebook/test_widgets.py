"""The live card: redrawn when the order changes, and marked while the network is away.

What a browser makes of it: `tests/labextension/test_order_view.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from pot_lab.network.errors import Unreachable
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.order import Order
from pot_lab.notebook.widgets import OrderCard
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Claim
from tests.notebook.in_process import FollowedWorld, lab_of
from tests.protocol.world import key

X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3


@pytest.fixture
def world() -> FollowedWorld:
    return FollowedWorld()


@pytest.fixture
def lab(world: FollowedWorld, tmp_path: Path) -> Lab:
    return lab_of(world, tmp_path)


@pytest.fixture
def order(lab: Lab) -> Order:
    return lab.order(nn.Linear(4, 3), (X, Y), (X, Y), reward=5, train_for="10s", title="lines")


@pytest.fixture
def card(lab: Lab, order: Order, world: FollowedWorld) -> Iterator[OrderCard]:
    card = OrderCard(lab.client, order.id, now_ms=lambda: world.now_ms)
    yield card
    card.close()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline_s = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.001)


def test_a_card_is_drawn_at_once_and_asks_once(lab: Lab, card: OrderCard) -> None:
    shown = card.widget.card
    assert (shown["title"], shown["window"], shown["claims"]) == ("lines", "commit", 0)
    assert shown["closes_ms"] - card.widget.now_ms == 10_000
    assert card.widget.is_mine and card.widget.problem == ""
    assert lab.client.transport.asked.count("order") == 1


def test_a_card_is_redrawn_when_the_order_changes(
    lab: Lab, order: Order, world: FollowedWorld, card: OrderCard
) -> None:
    provider = key("provider")
    world.stake(provider, Role.PROVIDER)
    world.now_ms += 4_000
    world.must(provider, Claim(order.id, bytes(32)))
    until(lambda: card.widget.card["claims"] == 1)
    assert card.widget.card["closes_ms"] - card.widget.now_ms == 6_000
    assert "1, 0 revealed" in card.widget.still_html and "6 s" in card.widget.still_text
    assert lab.client.transport.asked.count("order") == 2


def test_a_notebook_keeps_a_still_picture_beside_the_view(card: OrderCard) -> None:
    bundle, _ = card.widget._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert "lines" in bundle["text/html"] and "commit" in bundle["text/plain"]


def test_a_card_ends_with_its_order(order: Order, world: FollowedWorld, card: OrderCard) -> None:
    order.withdraw()
    until(lambda: card.widget.card["phase"] == "ENDED")
    assert "client withdrew" in card.widget.card["void_reason"]
    until(lambda: world.followers == [])
    card._thread.join(240)
    assert not card._thread.is_alive()


def test_a_closed_card_follows_no_longer(world: FollowedWorld, card: OrderCard) -> None:
    assert len(world.followers) == 1
    card.close()
    assert world.followers == [] and not card._thread.is_alive()


def test_a_card_is_marked_while_the_network_is_away(lab: Lab, card: OrderCard) -> None:
    lab.client.transport.problem = Unreachable("too few <aggregators> answered")
    lab.client.transport.poll()
    until(lambda: card.widget.problem == "too few <aggregators> answered")
    assert card.widget.card["window"] == "commit"
    lab.client.transport.problem = None
    lab.client.transport.poll()
    until(lambda: card.widget.problem == "")


def test_there_is_no_card_of_an_unknown_order(lab: Lab, world: FollowedWorld) -> None:
    with pytest.raises(UnknownOrder):
        OrderCard(lab.client, bytes(32))
    assert world.followers == []


def test_an_order_shows_its_live_card(order: Order, world: FollowedWorld) -> None:
    card = order.card()
    assert card.widget.card["id"] == order.id.hex()
    card.close()
