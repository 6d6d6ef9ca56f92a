"""Places and ties: whoever changes its claim loses its place, and nobody sees what it would have to beat."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from tests.protocol.scenes import PROVIDERS, VALIDATORS, bring_to
from tests.protocol.world import World

FIRST, SECOND = PROVIDERS


def tie(world: World, order_id: bytes, models: dict[str, object]) -> bytes:
    """Bring the order to its end with equal scores of these models; returns the winner."""
    world.wait_for(order_id, Window.REVEAL)
    for model, provider in models.items():
        assert world.reveal(order_id, provider, model).accepted  # type: ignore[arg-type]
    world.release(order_id)
    scores = dict.fromkeys(models, 90)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, scores).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    return world.order(order_id).winner


def test_a_tie_goes_to_the_earlier_commitment(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    world.claim(order_id, FIRST, "a")
    world.claim(order_id, SECOND, "b")
    assert tie(world, order_id, {"b": SECOND, "a": FIRST}) == FIRST.address, "whoever reveals first"


def test_committing_again_to_hold_a_place_open_gives_the_place_up(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    world.claim(order_id, FIRST, "placeholder")
    world.claim(order_id, SECOND, "b")
    world.claim(order_id, FIRST, "a")
    assert tie(world, order_id, {"a": FIRST, "b": SECOND}) == SECOND.address


def test_even_the_same_commitment_again_gives_the_place_up(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    world.claim(order_id, FIRST, "a")
    world.claim(order_id, SECOND, "b")
    world.claim(order_id, FIRST, "a")
    assert tie(world, order_id, {"a": FIRST, "b": SECOND}) == SECOND.address


def test_committing_again_locks_one_bond_and_no_more(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    for model in "abcdef":
        assert world.claim(order_id, FIRST, model).accepted
    assert world.ledger.book.stake(FIRST.address, Role.PROVIDER).locked == world.order(order_id).order.claim_bond_grains
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, FIRST, "a").code == "BadCommitment"
    assert world.reveal(order_id, FIRST, "f").accepted


def test_places_are_of_the_ledger_so_batches_decide_within_one_millisecond(world: World) -> None:
    from pot_lab.protocol.transactions import Claim

    order_id = bring_to(world, Window.COMMIT, claimed=False)
    replies = world.batch((SECOND, Claim(order_id, b"\x01" * 32)), (FIRST, Claim(order_id, b"\x02" * 32)))
    assert all(reply.accepted for reply in replies)
    claims = world.order(order_id).claims
    assert claims[SECOND.address].committed_ms == claims[FIRST.address].committed_ms
    assert claims[SECOND.address].place < claims[FIRST.address].place
