"""The view of an order that a ledger ran from beginning to finalization."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.queries import order_view
from pot_lab.protocol.views import OrderView
from tests.protocol.world import World, key

SCORES = {"model 0": 80, "model 1": 95}


def finished_order() -> OrderView:
    """Two providers with models of 80 and 95 right of 100, four validators, all scores opened."""
    world = World()
    providers = [key(f"provider {i}") for i in range(2)]
    validators = [key(f"validator {i}") for i in range(4)]
    for provider in providers:
        world.stake(provider, Role.PROVIDER)
    for validator in validators:
        world.stake(validator, Role.VALIDATOR)
    order_id, _ = world.start(title="<b>digits</b>")
    for provider, model in zip(providers, SCORES, strict=True):
        world.now_ms += 1_000
        world.claim(order_id, provider, model)
    world.wait_for(order_id, Window.REVEAL)
    for provider, model in zip(providers, SCORES, strict=True):
        world.reveal(order_id, provider, model)
    world.release(order_id)
    for validator in validators:
        world.commit_scores(order_id, validator, SCORES)
    for validator in validators:
        world.open_scores(order_id, validator, SCORES)
    world.wait_for(order_id, Window.FINALIZATION)
    return order_view(order_id, world.order(order_id))
