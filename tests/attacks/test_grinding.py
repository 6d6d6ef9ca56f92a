"""The draw's seed hashes every revealed salt and the test key: what the last to reveal can choose, and at what cost."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import HeldBlob
from pot_lab.protocol.selection import draw_seats, draw_seed
from pot_lab.protocol.transactions import AttestBlobs, AttestBoxes, HeldBox, ReleaseKey, Unregister
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to
from tests.protocol.world import POT, World, key, salt


def drawn(world: World, order_id: bytes) -> list[bytes]:
    return world.order(order_id).seats[0]


def test_nobody_knows_the_draw_before_the_last_salt_and_the_key_are_shown() -> None:
    # Given everything else, the first seat still takes every value with the last salt, and with the key.
    weights = {bytes([i]) * 20: 1 for i in range(4)}
    known = salt(MODELS[1])
    by_salt = {
        draw_seats(draw_seed(b"order", [known, salt(str(i))], b"key", b""), 0, weights, 7)[0] for i in range(100)
    }
    by_key = {draw_seats(draw_seed(b"order", [known], b"key %d" % i, b""), 0, weights, 7)[0] for i in range(100)}
    assert by_salt == by_key == set(weights)


def test_registering_and_leaving_after_the_start_chooses_no_draw(world: World) -> None:
    """The last to reveal knows all other salts; with its validators it once chose among two to the power of them."""
    own = [key(f"own {number}") for number in range(3)]
    for validator in own:
        world.stake(validator, Role.VALIDATOR)
    order_id = bring_to(world, Window.REVEAL)
    snapshot, pools = world.ledger.snapshot(), []
    for leaving in ([], own[:1], own):
        world.ledger.restore(snapshot)
        nonces = dict(world.nonces)
        for validator in leaving:
            world.must(validator, Unregister(1))
        assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
        world.release(order_id)
        order = world.order(order_id)
        stakes = {each: world.ledger.state.validator_sets[order.validators_at][each] for each in order.electors}
        seed = draw_seed(order_id, [salt(model) for model in MODELS], order.test_key, order.beacon)
        assert drawn(world, order_id) == draw_seats(seed, 0, stakes, 63)
        pools.append(stakes)
        world.nonces = nonces
    assert pools[0] == pools[1] == pools[2] and len(pools[0]) == 7
    # Without the rule, drawn from whoever is registered at the moment, each choice gives another draw.
    seed = draw_seed(
        order_id, [salt(model) for model in MODELS], world.order(order_id).test_key, world.order(order_id).beacon
    )
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
    seed = draw_seed(order_id, [salt(MODELS[1])], order.test_key, order.beacon)
    assert drawn(world, order_id) == draw_seats(seed, 0, weights, 63)
    other = draw_seed(order_id, [salt(MODELS[0]), salt(MODELS[1])], order.test_key, order.beacon)
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
    assert draw_seed(order_id, salts, b"key", b"") == draw_seed(order_id, reversed(salts), b"key", b"")
    assert len({draw_seed(order_id, chosen, b"key", b"") for chosen in ([], salts[:1], salts[1:], salts)}) == 4


def test_who_knows_key_and_salts_does_not_know_the_draw(world: World) -> None:
    """A client with claims of its own tried every subset of them; the digest of the batch that ends the reveals is none
    that it could know, and the key is not taken in that batch.
    """
    order_id = bring_to(world, Window.REVEAL)
    reveal = world.reveal_of(order_id, world.sealed(order_id, PROVIDERS[0], MODELS[0]))
    world.keeps = False
    world.must(PROVIDERS[0], reveal)
    held = AttestBlobs((HeldBlob(reveal.ciphertext.digest, reveal.ciphertext.size_bytes),))
    world.must(world.aggregators[0], held)
    for aggregator in world.aggregators[:3]:
        world.must(aggregator, AttestBoxes(order_id, (HeldBox(PROVIDERS[0].address),)))
    early, late = world.batch((world.aggregators[1], held), (world.client, ReleaseKey(order_id, world.keys[order_id])))
    assert early.accepted and late.code == "TooEarly" and "in this batch" in late.message
    order = world.order(order_id)
    assert (order.window, order.beacon) == (Window.RELEASE, world.ledger.state.digest)
    beacon = order.beacon
    world.must(world.client, ReleaseKey(order_id, world.keys[order_id]))
    assert order.test_key and world.order(order_id).beacon == beacon
    world.prove(order_id)
    assert order.window is Window.SCORE and order.beacon == beacon
    weights = {bytes([i]) * 20: 1 for i in range(30)}
    salts = [salt(model) for model in MODELS]
    draws = {tuple(draw_seats(draw_seed(order_id, salts, b"key", b"%d" % i), 0, weights, 7)) for i in range(20)}
    assert len(draws) == 20
