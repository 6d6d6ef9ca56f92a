"""One small stake promised to many challenges: whoever loses them all pays for the first only."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from tests.protocol.scenes import MODELS, VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import PARAMETERS, POT, key

THIN = key("thin")
BOND = 5 * POT


def challenges() -> tuple[list[str], int]:
    """What three challenges of one account with a stake for two are answered, and what it lost by not opening them."""
    world = new_world(structs.replace(PARAMETERS, challenge_bond_bp=2_000))
    world.stake(THIN, Role.PROVIDER, 2 * BOND)
    order_id = bring_to(world, Window.CHALLENGE)
    codes = [
        world.submit(THIN, world.challenge(order_id, THIN, VALIDATORS[1], MODELS[1], index)).code for index in range(3)
    ]
    finish(world)
    return codes, world.ledger.book.stake(THIN.address, Role.PROVIDER).slashed


def test_each_challenge_needs_free_stake() -> None:
    assert challenges() == (["", "", "InsufficientStake"], 2 * BOND)


def test_without_the_rule_the_third_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "require_free", lambda self, account, role, grains: None)
    assert challenges() == (["", "", ""], 2 * BOND)
