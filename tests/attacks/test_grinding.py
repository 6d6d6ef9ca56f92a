"""The draw's seed hashes every revealed salt: what the last to reveal can choose, and what the choice costs."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.selection import draw_seed, draw_validators
from tests.protocol.scenes import MODELS, PROVIDERS, bring_to
from tests.protocol.world import POT, World, salt


def drawn(world: World, order_id: bytes) -> list[bytes]:
    return world.order(order_id).claims[PROVIDERS[1].address].assigned


def test_nobody_knows_the_draw_before_the_last_salt_is_shown(world: World) -> None:
    # Given every other salt, the draw of a model still takes every value with the last one.
    weights = {bytes([i]) * 20: 1 for i in range(4)}
    mid, known = b"\x01" * 32, salt(MODELS[1])
    firsts = {draw_validators(draw_seed(b"order", [known, salt(str(last))]), mid, weights, 1)[0] for last in range(100)}
    assert firsts == set(weights)


def test_the_last_to_reveal_chooses_between_two_draws_and_pays_its_bond_for_the_other(world: World) -> None:
    for extra in range(3):
        from tests.protocol.world import key

        world.stake(key(f"more {extra}"), Role.VALIDATOR)
    order_id = bring_to(world, Window.REVEAL)
    order = world.order(order_id)
    world.wait_for(order_id, Window.RELEASE)  # the last one keeps silent
    world.release(order_id)
    weights = dict.fromkeys(world.ledger.book.active[Role.VALIDATOR], 200 * POT)
    mid = world.mid(order_id, MODELS[1])
    seed = draw_seed(order_id, [salt(MODELS[1])])
    assert drawn(world, order_id) == draw_validators(seed, mid, weights, 7)
    other = draw_seed(order_id, [salt(MODELS[0]), salt(MODELS[1])])
    assert draw_validators(other, mid, weights, 7) != drawn(world, order_id), "the one other draw it could have had"
    assert PROVIDERS[0].address not in order.claims
    stake = world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER)
    assert stake.slashed == order.order.claim_bond_grains and stake.locked == 0
    assert world.ledger.state.accounts[PROVIDERS[0].address].reputation.forfeits == 1


def test_k_accounts_buy_two_to_the_k_draws_for_k_bonds_and_no_more(world: World) -> None:
    # Only whole salts can be left out: revealing later, twice or in another order gives the same seed.
    order_id = bring_to(world, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[1], MODELS[1]).code == "AlreadyDone"
    salts = [salt(model) for model in MODELS]
    assert draw_seed(order_id, salts) == draw_seed(order_id, reversed(salts))
    assert len({draw_seed(order_id, chosen) for chosen in ([], salts[:1], salts[1:], salts)}) == 4


def test_the_draw_does_not_change_with_the_time_or_the_batch_of_the_reveals(world: World) -> None:
    order_id = bring_to(world, Window.REVEAL)
    snapshot = world.ledger.snapshot()
    draws = []
    for delay_ms in (0, 1, 4_000):
        world.ledger.restore(snapshot)
        world.now_ms = world.order(order_id).timeline[-1].opened_ms + delay_ms
        assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
        world.release(order_id)
        draws.append([claim.assigned for claim in world.order(order_id).claims.values()])
        world.nonces[PROVIDERS[0].address] -= 1
        for aggregator in world.aggregators[:2]:
            world.nonces[aggregator.address] -= 1
    assert draws[0] == draws[1] == draws[2]
