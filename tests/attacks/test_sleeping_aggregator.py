"""An aggregator that does nothing is paid like those that order, judge and settle, since a few of them decide."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import sealing
from pot_lab.protocol.settlement import settlement_digest
from pot_lab.protocol.transactions import SignEpoch
from tests.protocol.scenes import bring_to, new_world
from tests.protocol.world import PARAMETERS, POT, World

JAIL_MARKS = 3
PART = 25 * POT * 5 // 100 // 4
"""What each of four aggregators gets of an order."""


def jailing(marks: int = JAIL_MARKS) -> World:
    return new_world(structs.replace(PARAMETERS, jail_marks=marks))


def orders(world: World, count: int) -> list[int]:
    """What the last aggregator, which signs nothing, has earned after each of so many orders."""
    earned = []
    for _ in range(count):
        bring_to(world, Window.SETTLED)
        earned.append(int(world.ledger.book.account(world.aggregators[-1].address).earned_grains))
    return earned


def test_who_signs_no_settlement_is_paid_for_few_orders() -> None:
    world = jailing()
    assert orders(world, 6) == [PART, 2 * PART, 3 * PART, 3 * PART, 3 * PART, 3 * PART]
    assert int(world.ledger.book.account(world.aggregators[0].address).earned_grains) == 6 * PART, "others gain nothing"
    assert int(world.ledger.book.account(world.parameters.treasury).earned_grains) >= 3 * PART
    assert world.ledger.book.account(world.aggregators[-1].address).reputation.absences == 1
    last = world.aggregators[-1].address
    assert [each.kind for each in world.events if each.account == last].count("aggregator_jailed") == 1


def test_without_the_rule_it_is_paid_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "is_jailed", lambda book, account: False)
    assert orders(jailing(), 6)[-1] == 6 * PART


def test_it_is_let_out_by_the_next_settlement_that_it_signs_and_stays_on_the_edge() -> None:
    world = jailing()
    assert orders(world, JAIL_MARKS + 1)[-1] == JAIL_MARKS * PART
    sign_epoch = world.sign_epoch
    world.sign_epoch = lambda count=None: sign_epoch(4)  # type: ignore[method-assign]
    bring_to(world, Window.SETTLED)
    assert world.ledger.state.downtime == {world.aggregators[-1].address: JAIL_MARKS - 1}
    assert "aggregator_released" in [each.kind for each in world.events]
    world.sign_epoch = sign_epoch  # type: ignore[method-assign]
    earned = orders(world, 2)
    assert earned == [(JAIL_MARKS + 1) * PART] * 2, "paid once more, and jailed again"


def test_others_cannot_bring_marks_over_one_that_signs() -> None:
    """Not by a quorum that is complete before, since it has the time until the chain confirms."""
    world = jailing()
    confirm = world.settle

    def late() -> None:
        pending = world.ledger.state.pending
        assert pending is not None and len(world.ledger.book.counted(pending.signatures)) == world.ledger.book.quorum
        digest = settlement_digest(world.genesis.chain_id, world.genesis.settlement_contract, pending.settlement)
        last = world.aggregators[-1]
        world.must(last, SignEpoch(pending.settlement.epoch, pending.settlement.round, last.sign(digest)))
        confirm()

    world.settle = late  # type: ignore[method-assign]
    assert orders(world, JAIL_MARKS + 1)[-1] == (JAIL_MARKS + 1) * PART
    assert world.ledger.state.downtime == {}


def test_a_round_that_was_given_up_and_confirmed_all_the_same_marks_nobody() -> None:
    world = jailing(1)
    bring_to(world, Window.FINALIZATION)
    world.wait(world.parameters.update_ms + 100)
    world.sign_epoch()
    world.wait(world.parameters.settlement_timeout_ms + 100)
    pending = world.ledger.state.pending
    assert pending is not None and not pending.signatures, "a new round"
    world.settle()
    assert world.ledger.state.pending is None and world.ledger.state.downtime == {}
