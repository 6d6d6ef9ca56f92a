"""Test data seen early, withheld, or falsified: by aggregators, by the client, or by both."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.shamir import Share
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import share_commitment
from pot_lab.protocol.transactions import ReleaseKey, ReleaseShare
from tests.protocol.scenes import MODELS, PROVIDERS, bring_to
from tests.protocol.world import POT, World, key


@pytest.mark.parametrize("window", [Window.WAITING, Window.COMMIT, Window.REVEAL])
def test_no_share_and_no_key_is_taken_before_all_models_are_fixed(world: World, window: Window) -> None:
    order_id = bring_to(world, window)
    for index, aggregator in enumerate(world.aggregators):
        assert world.submit(aggregator, ReleaseShare(order_id, world.shares[order_id][index])).code == "TooEarly"
    assert world.submit(world.client, ReleaseKey(order_id, world.keys[order_id])).code == "TooEarly"
    assert not world.order(order_id).shares and not world.order(order_id).test_key


def test_f_aggregators_that_withhold_their_shares_stop_nothing(world: World) -> None:
    order_id = bring_to(world, Window.RELEASE)
    for index in range(world.ledger.book.faulty, len(world.aggregators)):
        if world.order(order_id).window == Window.RELEASE:
            world.must(world.aggregators[index], ReleaseShare(order_id, world.shares[order_id][index]))
    world.aggregators = world.aggregators[world.ledger.book.faulty :]
    world.prove(order_id)
    assert world.order(order_id).window == Window.SCORE


@pytest.mark.parametrize("aggregators", [4, 7, 10])
def test_fewer_than_n_minus_f_shares_do_not_open_the_test_data(aggregators: int) -> None:
    from tests.protocol.scenes import new_world

    world = new_world(aggregators=aggregators)
    order_id = bring_to(world, Window.RELEASE)
    index = correct(aggregators) - 1
    world.release(order_id, count=index)
    assert world.order(order_id).window == Window.RELEASE and not world.order(order_id).test_key
    world.must(world.aggregators[index], ReleaseShare(order_id, world.shares[order_id][index]))
    assert world.order(order_id).test_key == world.keys[order_id]


def test_a_false_share_is_refused_and_its_aggregator_may_still_say_the_true_one(world: World) -> None:
    order_id = bring_to(world, Window.RELEASE)
    true = world.shares[order_id][0]
    for false in (
        Share(true.index, bytes(32)),
        Share(true.index, true.value[:31] + bytes([true.value[31] ^ 1])),
        Share(2, world.shares[order_id][1].value),
        Share(2, true.value),
        Share(1, b""),
        Share(-1, true.value),
        Share(1 << 63, true.value),
    ):
        assert world.submit(world.aggregators[0], ReleaseShare(order_id, false)).code == "BadShare"
    world.release(order_id)
    assert world.order(order_id).window == Window.SCORE


def forged_order(world: World, shares: list[Share]) -> bytes:
    """An order whose client committed to shares that do not make its key, brought to its release window."""
    order = world.new_order()
    test = structs.replace(
        order.test, share_commitments=tuple(share_commitment(order.sealing_binding, s) for s in shares)
    )
    order_id, _ = world.start(test=test, nonce=order.nonce)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.claim(order_id, provider, model).accepted
    world.wait_for(order_id, Window.REVEAL)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.reveal(order_id, provider, model).accepted
    world.shares[order_id] = shares
    return order_id


def test_a_client_whose_shares_do_not_open_its_test_data_pays_the_revealers(world: World) -> None:
    order_id = forged_order(world, [Share(i, bytes([i]) * 32) for i in range(1, 5)])
    world.release(order_id, count=3)
    order = world.order(order_id)
    assert order.void_reason == VoidReason.NOT_RELEASED
    bonds = {p.account: p.grains for p in order.payouts if p.reason == "client's bond"}
    assert bonds == {provider.address: POT for provider in PROVIDERS}
    assert all(world.ledger.book.stake(p.address, Role.PROVIDER).locked == 0 for p in PROVIDERS)


@pytest.mark.parametrize("lengths", [(32, 31), (31, 31), (0, 0), (33, 32)])
def test_a_client_whose_shares_have_odd_lengths_pays_too(world: World, lengths: tuple[int, int]) -> None:
    shares = [Share(i, bytes([i]) * lengths[i % 2]) for i in range(1, 5)]
    order_id = forged_order(world, shares)
    for index, aggregator in enumerate(world.aggregators):
        over = world.order(order_id).window != Window.RELEASE
        reply = world.submit(aggregator, ReleaseShare(order_id, shares[index]))
        assert reply.code == ("TooLate" if over else "" if len(shares[index].value) == 32 else "BadShare")
    world.wait_for(order_id, Window.VOID)
    order = world.order(order_id)
    assert order.void_reason == VoidReason.NOT_RELEASED
    assert sum(p.grains for p in order.payouts if p.reason == "client's bond") == 2 * POT


def test_a_client_that_seals_rubbish_can_still_release_its_key(world: World) -> None:
    order_id = forged_order(world, [Share(i, b"") for i in range(1, 5)])
    world.must(world.client, ReleaseKey(order_id, world.keys[order_id]))
    world.prove(order_id)
    assert world.order(order_id).window == Window.SCORE


def test_silence_of_everybody_voids_the_order_at_its_clients_cost(world: World) -> None:
    order_id = bring_to(world, Window.RELEASE)
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).code == "TooLate"
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == VoidReason.NOT_RELEASED
    assert world.ledger.state.accounts[PROVIDERS[0].address].earned_grains == POT
    assert world.ledger.state.accounts[key("client").address].earned_grains == 26 * POT
