"""An aggregator challenges a right score itself and judges its own case:
one more verdict, of an aggregator that is mistaken, would do."""

from __future__ import annotations

import pytest

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import disputes
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Verdict
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import World


def judged(world: World) -> tuple[str, bytes]:
    """What its own verdict is answered, and the order's winner."""
    judge, mistaken = world.aggregators[:2]
    world.stake(judge, Role.VERIFIER)
    order_id = bring_to(world, Window.CHALLENGE)
    world.must(judge, world.challenge(order_id, judge, VALIDATORS[1], MODELS[1], 3, Role.VERIFIER))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(judge, world.open_challenge(order_id, VALIDATORS[1], MODELS[1], 95, 3))
    name = world.order(order_id).disputes[0].name
    world.must(mistaken, Verdict(order_id, name, False))
    code = world.submit(judge, Verdict(order_id, name, False)).code
    finish(world)
    return code, world.order(order_id).winner


def test_who_challenged_has_no_verdict() -> None:
    world = new_world()
    code, winner = judged(world)
    assert code == "NotAllowed" and winner == PROVIDERS[1].address
    assert all(world.ledger.book.stake(each.address, Role.VALIDATOR).slashed == 0 for each in VALIDATORS)


def test_did_it_have_one_the_best_model_would_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disputes, "may_judge", lambda order, account: True)
    world = new_world()
    code, winner = judged(world)
    assert code == "" and winner == PROVIDERS[0].address
    assert all(world.ledger.book.stake(each.address, Role.VALIDATOR).slashed for each in VALIDATORS)
