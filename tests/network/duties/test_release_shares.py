"""An aggregator releases its share of a test-data key when the order's reveal window has closed, and not before."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.crypto.canonical import encode
from pot_lab.crypto.sealed_box import SealingKey, seal
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.release_shares import ReleaseShares
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.records import OrderRecord, share_context
from pot_lab.protocol.transactions import Put
from tests.network.duties.parts import signer_of
from tests.protocol.scenes import MODELS, PROVIDERS, new_world
from tests.protocol.world import World

HOLDER = 2


def sealed_order(world: World, **changes: object) -> OrderRecord:
    """An order whose shares are sealed to the aggregators, as a client makes it."""
    order = world.new_order(**changes)
    boxes = tuple(
        seal(sealing.public, encode(share), share_context(order.sealing_binding, aggregator.address, index))
        for index, (sealing, share, aggregator) in enumerate(
            zip(world.sealing, world.shares[order.id], world.aggregators, strict=True)
        )
    )
    sealed = msgspec.structs.replace(order, test=msgspec.structs.replace(order.test, sealed_shares=boxes))
    world.shares[sealed.id] = world.shares[order.id]
    return sealed


def in_release(world: World, *orders: OrderRecord) -> None:
    """Bring these orders together to where shares are released."""
    for order in orders:
        world.must(world.client, Put(order))
        world.escrow(order)
    for order in orders:
        for provider, model in zip(PROVIDERS, MODELS, strict=True):
            assert world.claim(order.id, provider, model).accepted
    world.wait_for(orders[0].id, Window.REVEAL)
    for order in orders:
        for provider, model in zip(PROVIDERS, MODELS, strict=True):
            assert world.reveal(order.id, provider, model).accepted
        assert world.order(order.id).window is Window.RELEASE


def duty_of(world: World, *keys: SealingKey) -> ReleaseShares:
    signer = signer_of(world, world.aggregators[HOLDER])
    return ReleaseShares(lambda: world.ledger, signer, keys or [world.sealing[HOLDER]])


@pytest.fixture
def world() -> World:
    return new_world()


def test_a_share_is_released_in_its_window_and_the_ledger_takes_it(world: World) -> None:
    duty, order = duty_of(world), sealed_order(world)
    assert duty.poll(0) == []
    in_release(world, order)
    requests = duty.poll(10_000)
    assert len(requests) == 1 and world.ordered(*requests)[0].accepted
    assert list(world.order(order.id).shares) == [HOLDER]
    assert duty.poll(20_000) == []


def test_before_the_reveal_window_has_closed_no_share_is_released(world: World) -> None:
    duty, order = duty_of(world), sealed_order(world)
    world.must(world.client, Put(order))
    world.escrow(order)
    assert world.claim(order.id, PROVIDERS[0], MODELS[0]).accepted
    assert duty.poll(0) == []
    world.wait_for(order.id, Window.REVEAL)
    assert duty.poll(10_000) == []


def test_a_release_is_repeated_after_a_while_until_it_shows(world: World) -> None:
    duty = duty_of(world)
    in_release(world, sealed_order(world))
    assert len(duty.poll(10_000)) == 1
    assert duty.poll(10_000 + REPEAT_AFTER_MS - 1) == []
    assert len(duty.poll(10_000 + REPEAT_AFTER_MS)) == 1


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_share_is_opened_with_whichever_key_was_in_use(world: World, position: int) -> None:
    keys = [SealingKey.generate(), SealingKey.generate()]
    keys.insert(position, world.sealing[HOLDER])
    duty = duty_of(world, *keys)
    in_release(world, sealed_order(world))
    assert world.ordered(*duty.poll(0))[0].accepted


def test_a_share_that_does_not_open_is_logged_and_does_not_stop_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    duty, bad, good = duty_of(world), world.new_order(), sealed_order(world, nonce=77)
    in_release(world, bad, good)
    requests = duty.poll(10_000)
    assert len(requests) == 1 and world.ordered(*requests)[0].accepted
    assert list(world.order(good.id).shares) == [HOLDER] and world.order(bad.id).shares == {}
    assert caplog.text.count(f"event=share_unusable order={bad.id.hex()[:16]} reason=") == 1
    assert duty.poll(10_001) == [] and caplog.text.count("share_unusable") == 1


def test_an_aggregator_without_a_seat_when_the_order_was_made_has_no_share(world: World) -> None:
    signer = signer_of(world, PROVIDERS[0])
    in_release(world, sealed_order(world))
    assert ReleaseShares(lambda: world.ledger, signer, [world.sealing[0]]).poll(0) == []
