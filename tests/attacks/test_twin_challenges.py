"""One question asked twice: a challenger commits twice to one leaf, so that only one of two disputes of one name gets
verdicts, and the other leaves both bonds free. Delay would cost nothing."""

from __future__ import annotations

import pytest

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.identity import Identity
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import disputes
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import challenge_commitment, validation_id
from pot_lab.protocol.transactions import Challenge, OpenChallenge, Verdict
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import World, leaves

JUNK = PROVIDERS[0]
TOTAL, INDEX = 95, 3
"""What the scenes' validators open for the better model, and one of its right examples."""


def twins(world: World, against: list[Identity], *, right: bool) -> bytes:
    """Two challenges of one leaf, each with its own salt; the order once the aggregators have judged."""
    order_id = bring_to(world, Window.CHALLENGE)
    mid, salts = world.mid(order_id, MODELS[1]), [sha256(b"first"), sha256(b"second")]
    for validator, salt in zip(against, salts, strict=True):
        vid = validation_id(world.network_id, order_id, mid, validator.address)
        commitment = challenge_commitment(world.network_id, order_id, JUNK.address, vid, INDEX, salt)
        world.must(JUNK, Challenge(order_id, int(Role.PROVIDER), commitment))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    tree = leaves(TOTAL)
    for validator, salt in zip(against, salts, strict=True):
        body = OpenChallenge(
            order_id=order_id,
            mid=mid,
            validator=validator.address,
            leaf=1,
            leaves_total=tree.total,
            proof=tree.proof(INDEX),
            salt=salt,
        )
        world.must(JUNK, body)
    order = world.order(order_id)
    for aggregator in world.aggregators[:2]:
        for name in dict.fromkeys(each.name for each in order.disputes):
            world.must(aggregator, Verdict(order_id, name, right))
    return order_id


def lost(world: World) -> int:
    """What the challenger has lost once the order has ended, in grains."""
    finish(world)
    return world.ledger.book.stake(JUNK.address, Role.PROVIDER).slashed


ONE, TWO = [VALIDATORS[0]] * 2, VALIDATORS[:2]


@pytest.mark.parametrize("against", [ONE, TWO], ids=["one validator", "two that opened the same"])
def test_both_bonds_are_lost_with_the_one_verdict(against: list[Identity]) -> None:
    world = new_world()
    order_id = twins(world, against, right=True)
    assert len(world.order(order_id).disputes) == 1 and world.order(order_id).window is Window.FINALIZATION
    assert lost(world) == 2 * (25 * 10**9 // 20)


@pytest.mark.parametrize("against", [ONE, TWO], ids=["one validator", "two that opened the same"])
def test_without_the_rule_false_challenges_are_free(against: list[Identity], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disputes, "_is_disputed", lambda order, name: False)
    world = new_world()
    order_id = twins(world, against, right=True)
    assert world.order(order_id).window is Window.JUDGE, "the second dispute never ends"
    assert lost(world) == 0


def test_a_proved_lie_pays_a_twin_once_and_frees_both_bonds() -> None:
    world = new_world()
    order_id = twins(world, TWO, right=False)
    order = world.order(order_id)
    assert sum(order.found.values()) == sum(map(len, order.seats)) and lost(world) == 0
