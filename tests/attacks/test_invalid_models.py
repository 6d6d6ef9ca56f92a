"""A model that gives no number for most examples, whose opened total counts just these: as a score it would be a high
one.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import sealing
from pot_lab.protocol.orders.sealing import winning_claim
from pot_lab.protocol.state import OrderState
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to, new_world
from tests.protocol.world import World

TOTALS = {MODELS[0]: 99, MODELS[1]: 70}
"""No result for 99 of 100 examples, and 70 right answers."""


def winner(world: World) -> bytes:
    world.invalid = {MODELS[0]}
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, TOTALS).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    return world.order(order_id).winner


def test_it_wins_nothing(world: World) -> None:
    assert winner(world) == PROVIDERS[1].address


def test_were_its_total_a_score_it_would_win(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_total(order: OrderState) -> Any:
        for claim in order.claims.values():
            if claim.agreed is not None:
                claim.agreed = structs.replace(claim.agreed, valid=True)
        return winning_claim(order)

    monkeypatch.setattr("pot_lab.protocol.orders.windows.winning_claim", by_total)
    assert sealing.winning_claim is winning_claim
    assert winner(new_world()) == PROVIDERS[0].address
