"""The draw of validators: the same everywhere, in proportion to stake, and never the wrong people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import sha256
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.selection import ACCOUNTS, draw_seats, draw_seed, redraw_seats, score_quorum, set_of, sets_for
from pot_lab.protocol.transactions import Unregister
from tests.protocol.scenes import PROVIDERS, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT, key

hashes = st.binary(min_size=32, max_size=32)
pools = st.dictionaries(st.binary(min_size=20, max_size=20), st.integers(0, 10**18), max_size=12)


@given(hashes, st.integers(0, 300), pools, st.integers(3, 15), st.randoms())
def test_the_same_inputs_give_the_same_seats_in_any_order(
    seed: bytes, number: int, weights: dict[bytes, int], count: int, random: object
) -> None:
    items = list(weights.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    seats = draw_seats(seed, number, weights, count)
    assert seats == draw_seats(seed, number, dict(items), count)
    eligible = {address for address, weight in weights.items() if weight > 0}
    assert set(seats) <= eligible and len(seats) == (count if eligible else 0)
    assert len(set(seats)) >= min(ACCOUNTS, len(eligible)), "so many accounts hold seats, whatever the stakes are"


@given(hashes, pools, st.sets(st.integers(0, 6)))
def test_silent_accounts_lose_their_seats_to_others(seed: bytes, weights: dict[bytes, int], places: set[int]) -> None:
    seats = draw_seats(seed, 0, weights, 7)
    silent = {seats[place] for place in places if seats}
    after = redraw_seats(seed, 0, seats, silent, weights)
    others = {address for address, weight in weights.items() if weight > 0} - silent
    assert len(after) == len(seats)
    if len(others) >= ACCOUNTS:
        assert set(after) <= others and len(set(after)) >= ACCOUNTS
        assert set(seats) - silent <= set(after) or len(set(seats) - silent) < ACCOUNTS
    else:
        assert after == seats, "nobody can replace them"


def test_seats_are_in_proportion_to_stake_however_it_is_split() -> None:
    rich, poor = [bytes([i]) * 20 for i in (1, 2)], [bytes([0xF0 + i]) * 20 for i in range(8)]
    rounds = 2_000

    def share(weights: dict[bytes, int]) -> float:
        seats = [seat for i in range(rounds) for seat in draw_seats(sha256(b"%d" % i), 0, weights, 7)]
        return sum(seat in poor for seat in seats) / len(seats)

    whole = {**dict.fromkeys(rich, 35), poor[0]: 30}
    split = {**dict.fromkeys(rich, 35), **dict.fromkeys(poor, 30 / len(poor))}
    assert abs(share(whole) - 0.3) < 0.02, "five standard deviations are 0.02, and the seeds are fixed"
    assert abs(share({address: int(100 * weight) for address, weight in split.items()}) - 0.3) < 0.02


def test_another_seed_or_set_gives_another_draw() -> None:
    weights = {bytes([i]) * 20: 1 for i in range(50)}
    draws = {tuple(draw_seats(sha256(b"%d" % i), 0, weights, 7)) for i in range(20)}
    draws |= {tuple(draw_seats(sha256(b"0"), i, weights, 7)) for i in range(1, 21)}
    assert len(draws) == 40


def test_a_known_draw() -> None:
    weights = {bytes([i]) * 20: 10 * i for i in range(1, 8)}
    seed = draw_seed(b"\x01" * 32, [b"\x02" * 32, b"\x03" * 32], b"\x04" * 32, b"\x05" * 32)
    assert seed.hex() == "c96ab665baa19ac27085656ac92bbf5ddda742d50047665ded39353a66579363"
    seats = draw_seats(seed, 1, weights, 7)
    assert [address[0] for address in seats] == [2, 4, 5, 7, 5, 1, 2]
    again = redraw_seats(seed, 1, seats, {seats[0]}, weights)
    assert [address[0] for address in again] == [4, 4, 5, 7, 5, 1, 5]
    lopsided = {b"\x01" * 20: 10**17, b"\x02" * 20: 1, b"\x03" * 20: 1}
    assert [address[0] for address in draw_seats(seed, 0, lopsided, 7)] == [1, 1, 1, 1, 1, 3, 2]


@pytest.mark.parametrize(("models", "sets"), [(1, 1), (16, 1), (17, 2), (256, 16), (257, 17)])
def test_sixteen_models_have_one_set_of_seats(models: int, sets: int) -> None:
    assert sets_for(models) == sets
    found = {set_of(b"seed", sha256(b"%d" % i), sets) for i in range(20 * sets)}
    assert found == set(range(sets))


@given(st.lists(hashes, max_size=6), st.randoms())
def test_the_seed_depends_on_everything_and_not_on_the_order_of_salts(salts: list[bytes], random: object) -> None:
    shuffled = list(salts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    seed = draw_seed(b"order", salts, b"key", b"beacon")
    assert seed == draw_seed(b"order", shuffled, b"key", b"beacon")
    others = [(b"other", salts, b"key", b"beacon"), (b"order", salts, b"kez", b"beacon")]
    others += [(b"order", salts, b"key", b"other"), (b"order", [*salts, bytes(32)], b"key", b"beacon")]
    others += [(b"order", salts[:i] + salts[i + 1 :], b"key", b"beacon") for i in range(len(salts))]
    assert seed not in {draw_seed(*each) for each in others}


@pytest.mark.parametrize(("validators", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (64, 43)])
def test_two_quorums_of_scores_cannot_both_be(validators: int, quorum: int) -> None:
    assert score_quorum(validators) == quorum > validators / 2


def test_neither_the_client_nor_a_claimant_is_ever_drawn() -> None:
    for nonce in range(1, 13):
        world = new_world()
        for identity in (*PROVIDERS, world.client):
            world.stake(identity, Role.VALIDATOR, 10**6 * POT)
        world.shares.update({bytes([i]): [] for i in range(nonce)})
        order_id = bring_to(world, Window.RELEASE)
        world.release(order_id)
        (seats,) = world.order(order_id).seats
        assert len(seats) == 63 and set(seats) <= {validator.address for validator in VALIDATORS}


def test_whoever_comes_after_the_start_is_not_drawn_and_whoever_leaves_keeps_its_duty() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    late = key("late")
    world.stake(late, Role.VALIDATOR, 10**6 * POT)
    for validator in VALIDATORS:
        world.must(validator, Unregister(1))
    world.wait_for(order_id, Window.REVEAL)
    assert set(world.order(order_id).electors) == {validator.address for validator in VALIDATORS}


def test_only_validators_whose_stake_covers_the_lock_are_drawn() -> None:
    world = new_world()
    stake = world.ledger.book.stake(VALIDATORS[1].address, Role.VALIDATOR)
    order_id = bring_to(world, Window.COMMIT)
    stake.locked = stake.bonded - world.order(order_id).lock_grains + 1
    world.wait_for(order_id, Window.REVEAL)
    assert VALIDATORS[1].address not in world.order(order_id).electors
    stake.locked = 0
