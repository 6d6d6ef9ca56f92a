"""Aggregators attest that they hold shares of a rival model's key, and then publish none: it is never opened, and they
let an accomplice's model win. Or they leave what an order waits for to the others, and are paid as these are.
"""

from __future__ import annotations

import pytest

from pot_lab.crypto.identity import Identity
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import AttestBoxes, HeldBox, ReleaseModelShares, Verdict
from tests.protocol.scenes import MODELS, PROVIDERS, bring_to, finish, new_world, speech
from tests.protocol.world import POT, World

FRIEND, VICTIM = PROVIDERS
STAKE, PRICE = 200 * POT, 25 * POT // 20


def staked(world: World, who: Identity) -> None:
    world.chain(
        ChainEvent(
            kind="staked", block=1, log_index=0, account=who.address, role=3, amount_grains=STAKE, subject=b"",
            detail=(STAKE,),
        )
    )  # fmt: skip


def withheld(world: World) -> bytes:
    """Two of four holders attest all their boxes and publish shares of the friend's key alone."""
    for each in world.aggregators:
        staked(world, each)
    order_id = bring_to(world, Window.REVEAL)
    boxes = tuple(HeldBox(each.address) for each in PROVIDERS)
    assert world.reveal(order_id, FRIEND, MODELS[0]).accepted
    for each in world.aggregators:
        world.submit(each, AttestBoxes(order_id, boxes))
    world.release(order_id, count=3)
    world.judge(order_id)
    for place, holder in enumerate(world.aggregators):
        items = world.model_shares(order_id, place).items
        if place < 2:
            items = tuple(each for each in items if each.provider == FRIEND.address)
        if items:
            world.must(holder, ReleaseModelShares(order_id, items))
    world.judge(order_id, world.mid(order_id, MODELS[0]))
    world.wait_for(order_id, Window.SCORE)
    assert set(world.order(order_id).claims) == {FRIEND.address}
    return order_id


def slashed(world: World) -> list[int]:
    return [world.ledger.book.stake(each.address, Role.AGGREGATOR).slashed for each in world.aggregators]


def test_who_attested_its_box_and_keeps_its_share_back_pays_the_provider() -> None:
    world = new_world()
    order_id = withheld(world)
    assert slashed(world) == [PRICE, PRICE, 0, 0]
    assert world.ledger.state.dues == {VICTIM.address: 2 * PRICE}
    assert world.order(order_id).missed == sorted(each.address for each in world.aggregators[:2])
    finish(world)


def test_without_the_rule_a_model_is_kept_closed_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "miss_release", lambda book, order, late: None)
    world = new_world()
    withheld(world)
    assert slashed(world) == [0] * 4 and not world.ledger.state.dues


def undecided(world: World) -> list[int]:
    """One of four says what it found of a challenged score, and the others nothing: what each earns of the order."""
    order_id = bring_to(world, Window.OPEN_CHALLENGES)
    world.must(*speech(world, order_id, "open_challenge"))
    world.must(world.aggregators[0], Verdict(order_id, world.order(order_id).disputes[0].name, True))
    world.wait_for(order_id, Window.FINALIZATION)
    paid = {each.account: each.grains for each in world.order(order_id).payouts if each.reason == "aggregator"}
    return [paid.get(each.address, 0) for each in world.aggregators]


def test_who_gives_no_verdict_that_an_order_waits_for_gets_nothing_of_it() -> None:
    assert undecided(new_world()) == [25 * POT * 5 // 100 // 4, 0, 0, 0]


def test_without_the_rule_the_idle_are_paid_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "miss_judging", lambda book, order: None)
    assert len(set(undecided(new_world()))) == 1
