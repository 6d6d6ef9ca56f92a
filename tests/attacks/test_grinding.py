"""The draw's seed hashes every revealed salt and the test key: what the last to reveal can choose, and at what cost."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.selection import draw_seats, draw_seed
from pot_lab.protocol.transactions import Unregister
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to
from tests.protocol.world import POT, World, key, salt


def drawn(world: World, order_id: bytes) -> list[bytes]:
    return world.order(order_id).seats[0]


def test_nobody_knows_the_draw_before_the_last_salt_and_the_key_are_shown() -> None:
    # Given everything else, the first seat still takes every value with the last salt, and with the key.
    weights = {bytes([i]) * 20: 1 for i in range(4)}
    known = salt(MODELS[1])
    by_salt = {draw_seats(draw_seed(b"order", [known, salt(str(i))], b"key"), 0, weights, 7)[0] for i in range(100)}
    by_key = {draw_seats(draw_seed(b"order", [known], b"key %d" % i), 0, weights, 7)[0] for i in range(100)}
    assert by_salt == by_key == set(weights)


def test_registering_and_leaving_after_the_start_chooses_no_draw(world: World) -> None:
    """The last to reveal knows all other salts; with its validators it once chose among two to the power of them."""
    own = [key(f"own {number}") for number in range(3)]
    for validator in own:
        world.stake(validator, Role.VALIDATOR)
    order_id = bring_to(world, Window.REVEAL)
    snapshot, draws = world.ledger.snapshot(), []
    for leaving in ([], own[:1], own):
        world.ledger.restore(snapshot)
        nonces = dict(world.nonces)
        for validator in leaving:
            world.must(validator, Unregister(1))
        assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
        world.release(order_id)
        draws.append(drawn(world, order_id))
        world.nonces = nonces
    assert draws[0] == draws[1] == draws[2]
    # Without the rule, drawn from whoever is registered at the moment, each choice gives another draw.
    seed = draw_seed(order_id, [salt(model) for model in MODELS], world.order(order_id).test_key)
    registered = dict.fromkeys((validator.address for validator in (*VALIDATORS, *own)), 200 * POT)
    chosen = {
        tuple(draw_seats(seed, 0, {a: w for a, w in registered.items() if a not in left}, 7))
        for left in ([], [own[0].address], [each.address for each in own])
    }
    assert len(chosen) == 3


def test_the_last_to_reveal_chooses_between_two_draws_and_pays_its_bond_for_the_other(world: World) -> None:
    for extra in range(3):
        world.stake(key(f"more {extra}"), Role.VALIDATOR)
    order_id = bring_to(world, Window.REVEAL)
    order = world.order(order_id)
    world.wait_for(order_id, Window.RELEASE)  # the last one keeps silent
    world.release(order_id)
    weights = dict.fromkeys(world.ledger.book.active[Role.VALIDATOR], 200 * POT)
    seed = draw_seed(order_id, [salt(MODELS[1])], order.test_key)
    assert drawn(world, order_id) == draw_seats(seed, 0, weights, 63)
    other = draw_seed(order_id, [salt(MODELS[0]), salt(MODELS[1])], order.test_key)
    assert draw_seats(other, 0, weights, 63) != drawn(world, order_id), "the one other draw it could have had"
    assert PROVIDERS[0].address not in order.claims
    stake = world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER)
    assert stake.slashed == order.order.claim_bond_grains and stake.locked == 0
    assert world.ledger.state.accounts[PROVIDERS[0].address].reputation.forfeits == 1


def test_k_accounts_buy_two_to_the_k_draws_for_k_bonds_and_no_more(world: World) -> None:
    # Only whole salts can be left out: revealing later, twice or in another order gives the same seed.
    order_id = bring_to(world, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[1], MODELS[1]).code == "AlreadyDone"
    salts = [salt(model) for model in MODELS]
    assert draw_seed(order_id, salts, b"key") == draw_seed(order_id, reversed(salts), b"key")
    assert len({draw_seed(order_id, chosen, b"key") for chosen in ([], salts[:1], salts[1:], salts)}) == 4


def test_the_draw_does_not_change_with_the_time_or_the_batch_of_the_reveals(world: World) -> None:
    order_id = bring_to(world, Window.REVEAL)
    snapshot = world.ledger.snapshot()
    draws = []
    for delay_ms in (0, 1, 4_000):
        world.ledger.restore(snapshot)
        world.now_ms = world.order(order_id).timeline[-1].opened_ms + delay_ms
        assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
        world.release(order_id)
        draws.append(drawn(world, order_id))
        world.nonces[PROVIDERS[0].address] -= 1
        for aggregator in world.aggregators[:2]:
            world.nonces[aggregator.address] -= 1
    assert draws[0] == draws[1] == draws[2]
