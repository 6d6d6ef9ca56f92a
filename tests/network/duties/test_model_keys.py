"""An aggregator attests boxes that hold what is promised, and publishes its shares of models' keys in time."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.network.duties import model_keys
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.model_keys import ModelKeys
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.transactions import AttestBoxes, ReleaseModelShares, open_body
from tests.network.duties.parts import opened, signer_of
from tests.protocol.scenes import MODELS, PROVIDERS, bring_to, new_world
from tests.protocol.world import World, key

HOLDER = 2


def duty_of(world: World, *keys: SealingKey) -> ModelKeys:
    signer = signer_of(world, world.aggregators[HOLDER])
    return ModelKeys(lambda: world.ledger, signer, keys or [world.sealing[HOLDER]])


def revealed(world: World) -> bytes:
    """An order in its reveal window where both models are revealed, and nobody has attested a box."""
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.claim(order_id, provider, model).accepted
    world.wait_for(order_id, Window.REVEAL)
    world.keeps = False
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.reveal(order_id, provider, model).accepted
    return order_id


def attested(world: World, order_id: bytes) -> list[int]:
    """How many attested the boxes of each model."""
    claims = world.order(order_id).claims.values()
    return [len(claim.sealed.holders) if claim.sealed is not None else -1 for claim in claims]


@pytest.fixture
def world() -> World:
    return new_world()


def test_boxes_are_attested_once_they_are_revealed_and_the_ledger_takes_it(world: World) -> None:
    duty = duty_of(world)
    assert duty.poll(0) == []
    order_id = revealed(world)
    requests = duty.poll(1_000)
    [transaction] = opened(world, requests)
    body = open_body(transaction)
    assert isinstance(body, AttestBoxes) and {item.provider for item in body.items} == {p.address for p in PROVIDERS}
    assert duty.poll(1_000 + REPEAT_AFTER_MS - 1) == []
    assert len(duty.poll(1_000 + REPEAT_AFTER_MS)) == 1
    assert world.ordered(*requests)[0].accepted and attested(world, order_id) == [1, 1]
    assert duty.poll(1_000_000) == []


def test_a_box_that_does_not_hold_its_share_is_not_attested_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    order_id = revealed(world)
    claim = world.order(order_id).claims[PROVIDERS[0].address]
    assert claim.sealed is not None and claim.sealed.boxes is not None
    boxes = list(claim.sealed.boxes.boxes)
    boxes[HOLDER] = structs.replace(boxes[HOLDER], box=boxes[0].box)
    claim.sealed.boxes = structs.replace(claim.sealed.boxes, boxes=tuple(boxes))
    duty = duty_of(world)
    assert world.ordered(*duty.poll(0))[0].accepted and sorted(attested(world, order_id)) == [0, 1]
    assert duty.poll(REPEAT_AFTER_MS) == []
    assert caplog.text.count("event=box_unusable") == 1


def test_no_share_of_a_model_leaves_before_the_test_data_are_proven(world: World) -> None:
    order_id, duty = bring_to(world, Window.RELEASE), duty_of(world)
    assert duty.poll(0) == []
    world.release(order_id, count=4)
    assert world.order(order_id).test_key and duty.poll(100_000) == []
    world.judge(order_id)
    requests = duty.poll(200_000)
    [transaction] = opened(world, requests)
    body = open_body(transaction)
    assert isinstance(body, ReleaseModelShares) and len(body.items) == 2
    assert world.ordered(*requests)[0].accepted and duty.poll(300_000) == []
    held = [claim.sealed.shares for claim in world.order(order_id).claims.values() if claim.sealed is not None]
    assert [list(shares) for shares in held] == [[HOLDER], [HOLDER]]


def test_many_shares_go_in_several_transactions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_keys, "ITEMS_AT_ONCE", 1)
    order_id, duty = bring_to(world, Window.RELEASE), duty_of(world)
    world.release(order_id, count=3)
    world.judge(order_id)
    requests = duty.poll(0)
    assert len(requests) == 2 and all(reply.accepted for reply in world.ordered(*requests))


def test_a_box_is_opened_with_the_key_of_its_time(world: World) -> None:
    revealed(world)
    newer = SealingKey.from_secret(b"\x09" * 32)
    assert duty_of(world, newer).poll(0) == []
    assert len(duty_of(world, newer, world.sealing[HOLDER]).poll(0)) == 1


def test_who_holds_no_share_says_nothing(world: World) -> None:
    revealed(world)
    assert ModelKeys(lambda: world.ledger, signer_of(world, key("stranger")), [world.sealing[0]]).poll(0) == []
