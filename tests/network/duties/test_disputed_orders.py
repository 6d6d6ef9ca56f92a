"""Which orders' test data have to be open: those with scores that contradict each other, while they can be judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pot_lab.crypto.canonical import encode
from pot_lab.network.duties import disputed_orders
from pot_lab.network.duties.disputed_orders import DisputedOrders, sealed_name
from pot_lab.network.duties.prepare_judging import DisputedTest, OpenedModel
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import World, link


class Watching:
    """A world, and what is due in it by its events."""

    def __init__(self, custody: Path) -> None:
        self.world, self.custody = new_world(), custody
        self.ledger = self.world.ledger
        self.disputed = DisputedOrders(lambda: self.ledger, custody)
        self._told = 0

    def due(self) -> Mapping[bytes, DisputedTest | OpenedModel]:
        events = self.world.events
        self.disputed.note([encode(each) for each in events[self._told :]])
        self._told = len(events)
        return self.disputed.due()

    def holds(self, *names: str) -> None:
        for name in names:
            (self.custody / link(name).digest.hex()).write_bytes(b"")


def opened(world: World, *, lies: bool) -> bytes:
    """An order whose scores are all opened but one."""
    order_id, _ = world.start()
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        world.claim(order_id, provider, model)
    world.wait_for(order_id, Window.REVEAL)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        world.reveal(order_id, provider, model)
    world.release(order_id)
    scores = [{**SCORES, "model 1": 96} if lies and it is VALIDATORS[1] else SCORES for it in VALIDATORS]
    for act in (world.commit_scores, world.open_scores):
        for validator, score in list(zip(VALIDATORS, scores, strict=True))[act == world.open_scores :]:
            act(order_id, validator, score)
    return order_id


@pytest.fixture
def watching(tmp_path: Path) -> Watching:
    return Watching(tmp_path)


def test_contradicting_scores_are_due_with_what_the_order_says_of_its_test_data(watching: Watching) -> None:
    order_id = opened(watching.world, lies=True)
    assert watching.due() == {}  # this aggregator does not hold the files yet
    watching.holds("graph", "test")
    spec = watching.world.order(order_id).order
    assert watching.due() == {
        order_id: DisputedTest(
            ciphertext=watching.custody / link("test").digest.hex(),
            digest=link("test").digest,
            key=watching.world.keys[order_id],
            plain_bytes=spec.test.plain_bytes,
            plain_digest=spec.test.plain_digest,
            root=spec.test.root,
            examples=spec.test.examples,
            graph=watching.custody / link("graph").digest.hex(),
            graph_digest=link("graph").digest,
            function="accuracy/1",
        )
    }


def test_a_model_is_due_while_it_waits_for_verdicts_and_while_its_scores_differ(watching: Watching) -> None:
    world = watching.world
    order_id = bring_to(world, Window.RELEASE)
    watching.holds("graph", "test", *MODELS)
    assert watching.due() == {}  # nothing is released
    world.release(order_id, count=3)
    assert set(watching.due()) == {order_id}
    world.judge(order_id)
    world.open_models(order_id)
    mids = [world.mid(order_id, model) for model in MODELS]
    names = [sealed_name(order_id, mid) for mid in mids]
    assert set(watching.due()) == {order_id, *names}
    claim = world.order(order_id).claim_of(mids[0])
    assert claim is not None and claim.sealed is not None
    assert watching.due()[names[0]] == OpenedModel(
        ciphertext=watching.custody / link(MODELS[0]).digest.hex(),
        digest=link(MODELS[0]).digest,
        key=claim.sealed.key,
        plain_bytes=link(MODELS[0]).size_bytes,
        graph_digest=link("graph").digest,
        mid=mids[0],
    )
    world.judge(order_id, mids[0])
    assert set(watching.due()) == {order_id, names[1]}
    world.judge(order_id, mids[1])
    assert watching.due() == {}  # scoring has begun
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            act(order_id, validator, {**SCORES, "model 1": 95 + (validator is VALIDATORS[1])})
    assert set(watching.due()) == {order_id, names[1]}


def test_scores_that_agree_need_no_data(watching: Watching) -> None:
    watching.holds("graph", "test")
    opened(watching.world, lies=False)
    assert watching.due() == {}


def test_it_is_over_with_the_order(watching: Watching) -> None:
    watching.holds("graph", "test")
    order_id = opened(watching.world, lies=True)
    assert set(watching.due()) == {order_id}
    for _ in range(20):
        watching.world.wait(watching.world.order(order_id).closes_ms + 1 - watching.world.now_ms)
        if watching.world.order(order_id).window in (Window.FINALIZATION, Window.VOID):
            break
    assert watching.due() == {}


def test_a_batch_costs_the_orders_that_it_changed(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    watching.holds("graph", "test")
    quiet = opened(watching.world, lies=False)
    watching.due()
    looked: list[object] = []
    real = disputed_orders.is_disputed
    monkeypatch.setattr(disputed_orders, "is_disputed", lambda order: looked.append(order) or real(order))
    watching.due()
    assert looked == []
    loud = opened(watching.world, lies=True)
    assert set(watching.due()) == {loud}
    assert watching.world.order(quiet) not in looked


def test_a_ledger_that_was_taken_over_is_looked_at_as_a_whole(watching: Watching) -> None:
    watching.holds("graph", "test")
    order_id = opened(watching.world, lies=True)
    watching.ledger = Ledger(watching.world.genesis)
    watching.ledger.restore(watching.world.ledger.snapshot())
    assert set(watching.disputed.due()) == {order_id}


def test_one_is_near_while_models_are_revealed(watching: Watching) -> None:
    world = watching.world
    order_id, _ = world.start()
    world.claim(order_id, PROVIDERS[0], MODELS[0])
    assert not watching.disputed.is_one_near()
    world.wait_for(order_id, Window.REVEAL)
    assert watching.disputed.is_one_near()
    world.reveal(order_id, PROVIDERS[0], MODELS[0])
    world.wait_for(order_id, Window.RELEASE)
    assert not watching.disputed.is_one_near()
