"""The draw of validators: the same everywhere, in proportion to stake, and never the wrong people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import sha256
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.selection import draw_seed, draw_validators, score_quorum
from pot_lab.protocol.transactions import Unregister
from tests.protocol.scenes import PROVIDERS, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT

hashes = st.binary(min_size=32, max_size=32)
pools = st.dictionaries(st.binary(min_size=20, max_size=20), st.integers(0, 10**18), max_size=12)


@given(
    st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), pools, st.integers(0, 15), st.randoms()
)
def test_the_same_inputs_give_the_same_draw_in_any_order(
    seed: bytes, mid: bytes, weights: dict[bytes, int], count: int, random: object
) -> None:
    items = list(weights.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    drawn = draw_validators(seed, mid, weights, count)
    assert drawn == draw_validators(seed, mid, dict(items), count)
    eligible = {address for address, weight in weights.items() if weight > 0}
    assert len(drawn) == len(set(drawn)) == min(count, len(eligible)) and set(drawn) <= eligible


def test_chances_are_in_proportion_to_stake() -> None:
    weights = {bytes([i]) * 20: stake for i, stake in enumerate((10, 20, 30, 40), 1)}
    rounds = 4_000
    firsts = [draw_validators(sha256(b"%d" % i), b"mid", weights, 2) for i in range(rounds)]
    for address, weight in weights.items():
        share = sum(drawn[0] == address for drawn in firsts) / rounds
        assert abs(share - weight / 100) < 0.03, "five standard deviations are 0.039 at most, and the seeds are fixed"
    # Without replacement: P(second = a | first = b) = w_a / (100 - w_b)
    second = sum(drawn[1] == b"\x01" * 20 for drawn in firsts) / rounds
    assert abs(second - sum(w / 100 * 10 / (100 - w) for w in (20, 30, 40))) < 0.03


def test_another_seed_or_model_gives_another_draw() -> None:
    weights = {bytes([i]) * 20: 1 for i in range(50)}
    draws = {tuple(draw_validators(sha256(b"%d" % i), b"mid", weights, 7)) for i in range(20)}
    draws |= {tuple(draw_validators(sha256(b"0"), b"%d" % i, weights, 7)) for i in range(20)}
    assert len(draws) == 40


def test_a_known_draw() -> None:
    weights = {bytes([i]) * 20: 10 * i for i in range(1, 8)}
    seed = draw_seed(b"\x01" * 32, [b"\x02" * 32, b"\x03" * 32])
    assert seed.hex() == "63cee76bbe3c41fc2a9f70f05c016d4dbca7f76d6f9aa5f984b8776d02d21013"
    assert [address[0] for address in draw_validators(seed, b"\x04" * 32, weights, 7)] == [5, 7, 1, 3, 6, 2, 4]


@given(st.lists(hashes, max_size=6), st.randoms())
def test_the_seed_depends_on_every_salt_and_not_on_their_order(salts: list[bytes], random: object) -> None:
    shuffled = list(salts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    seed = draw_seed(b"order", salts)
    assert seed == draw_seed(b"order", shuffled) != draw_seed(b"other", salts)
    assert seed != draw_seed(b"order", [*salts, b"\x00" * 32])
    for i in range(len(salts)):
        assert draw_seed(b"order", salts[:i] + salts[i + 1 :]) != seed


@pytest.mark.parametrize(("validators", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (64, 43)])
def test_two_quorums_of_scores_cannot_both_be(validators: int, quorum: int) -> None:
    assert score_quorum(validators) == quorum > validators / 2


def test_neither_the_client_nor_the_models_own_provider_is_ever_drawn() -> None:
    for nonce in range(1, 13):
        world = new_world()
        for identity in (*PROVIDERS, world.client):
            world.stake(identity, Role.VALIDATOR, 10**6 * POT)
        world.shares.update({bytes([i]): [] for i in range(nonce)})
        order_id = bring_to(world, Window.RELEASE)
        world.release(order_id)
        claims = world.order(order_id).claims
        for provider in PROVIDERS:
            assigned = claims[provider.address].assigned
            assert world.client.address not in assigned and provider.address not in assigned
            assert len(assigned) == 5, "the four validators and the other provider"


def test_only_registered_validators_with_free_stake_are_drawn() -> None:
    world = new_world()
    world.must(VALIDATORS[0], Unregister(1))
    stake = world.ledger.book.stake(VALIDATORS[1].address, Role.VALIDATOR)
    stake.locked = stake.bonded
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    assert set(world.order(order_id).claims[PROVIDERS[0].address].assigned) == {v.address for v in VALIDATORS[2:]}
    stake.locked = 0
