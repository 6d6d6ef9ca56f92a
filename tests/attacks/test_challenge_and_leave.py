"""A rival challenges a right score to gain time, and asks its stake back before it has lost the challenge."""

from __future__ import annotations

from typing import Any

import pytest

from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Verdict
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import POT, World

RIVAL = PROVIDERS[0]


def left(world: World, *, opens: bool) -> int:
    """What the rival has lost, in grains, when it unstakes in the challenge window."""
    order_id = bring_to(world, Window.CHALLENGE)
    world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[1], MODELS[1], 3))
    world.chain(
        ChainEvent(
            kind="unstake_requested",
            block=3,
            log_index=0,
            account=RIVAL.address,
            role=int(Role.PROVIDER),
            amount_grains=200 * POT,
            subject=b"",
            detail=(0, 99),
        )
    )
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    if opens:
        world.must(RIVAL, world.open_challenge(order_id, VALIDATORS[1], MODELS[1], 95, 3))
        for aggregator in world.aggregators[:2]:
            world.must(aggregator, Verdict(order_id, world.order(order_id).disputes[0].name, True))
    finish(world)
    return world.ledger.book.stake(RIVAL.address, Role.PROVIDER).slashed


@pytest.mark.parametrize("opens", [True, False], ids=["false challenge", "never opened"])
def test_stake_that_is_leaving_still_pays_the_bond(opens: bool) -> None:
    assert left(new_world(), opens=opens) == 25 * POT // 20


@pytest.mark.parametrize("opens", [True, False], ids=["false challenge", "never opened"])
def test_could_only_bonded_stake_be_slashed_delay_would_be_free(opens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Book.slash

    def bonded_only(self: Book, address: bytes, role: Role, grains: int, *rest: Any) -> None:
        real(self, address, role, min(grains, self.stake(address, role).bonded), *rest)

    monkeypatch.setattr(Book, "slash", bonded_only)
    assert left(new_world(), opens=opens) == 0
