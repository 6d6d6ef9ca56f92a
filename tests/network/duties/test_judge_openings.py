"""An aggregator says what its helper found in opened test data and models, once, and where it has no part."""

from __future__ import annotations

import pytest

from pot_lab.judging import Finding, Judgement
from pot_lab.judging.records import not_judged
from pot_lab.network.duties.disputed_orders import sealed_name
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.judge_openings import JudgeOpenings
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.records import opening_name
from pot_lab.protocol.transactions import Verdict, open_body
from tests.network.duties.parts import opened
from tests.protocol.scenes import MODELS, PROVIDERS, bring_to, new_world
from tests.protocol.world import World

RIGHT, WRONG = Judgement(finding=Finding.RIGHT), Judgement(finding=Finding.WRONG, code="BadOpening")


class Bench:
    """The duty of one aggregator, and what its helper found by now."""

    def __init__(self, world: World, index: int = 0) -> None:
        self.world, self.found = world, dict[bytes, Judgement]()
        self.sign_as(index, 1_000_000)

    def sign_as(self, index: int, first_nonce: int) -> None:
        """A duty of this aggregator, with nonces above those that the world has used for it."""
        world, who = self.world, self.world.aggregators[index]
        signer = TransactionSigner(world.network_id, who, (), lambda: world.ledger, clock_us=lambda: first_nonce)
        self.duty = JudgeOpenings(lambda: world.ledger, signer, self.found.get)

    def verdicts(self, now_ms: int) -> list[Verdict]:
        bodies = [open_body(each) for each in opened(self.world, self.duty.poll(now_ms))]
        return [body for body in bodies if isinstance(body, Verdict)]


@pytest.fixture
def world() -> World:
    return new_world()


def test_test_data_and_then_models_are_judged_as_they_were_found(world: World) -> None:
    order_id, first, second = bring_to(world, Window.RELEASE), Bench(world, 0), Bench(world, 1)
    mid = world.mid(order_id, MODELS[0])
    for bench in (first, second):
        bench.found |= {sealed_name(order_id): RIGHT, sealed_name(order_id, mid): WRONG}
        assert bench.duty.poll(0) == []  # nothing is released
    world.release(order_id, count=3)
    for bench in (first, second):
        assert bench.verdicts(10_000) == [Verdict(order_id, opening_name(world.network_id, order_id), True)]
    assert all(world.ordered(*bench.duty.poll(20_000))[0].accepted for bench in (first, second))
    assert world.order(order_id).test_right is True
    world.nonces |= {each.address: 2_000_000 for each in world.aggregators}  # the duties' nonces are above the world's
    world.open_models(order_id)
    for place, bench in enumerate((first, second)):
        bench.sign_as(place, 3_000_000)
        assert bench.verdicts(30_000) == [Verdict(order_id, opening_name(world.network_id, order_id, mid), False)]
        assert world.ordered(*bench.duty.poll(40_000))[0].accepted
    assert list(world.order(order_id).claims) == [PROVIDERS[1].address]


def test_wrong_test_data_end_the_order(world: World) -> None:
    order_id, benches = bring_to(world, Window.RELEASE), [Bench(world, index) for index in range(2)]
    world.release(order_id, count=3)
    for bench in benches:
        bench.found[sealed_name(order_id)] = WRONG
        assert world.ordered(*bench.duty.poll(0))[0].accepted
    assert world.order(order_id).void_reason is VoidReason.INVALID_TEST_DATA


def test_what_is_not_known_yet_is_not_said_and_what_was_said_not_repeated_at_once(world: World) -> None:
    order_id, bench = bring_to(world, Window.RELEASE), Bench(world)
    world.release(order_id, count=3)
    assert bench.duty.poll(0) == []
    bench.found[sealed_name(order_id)] = not_judged("HelperDied")
    assert bench.duty.poll(1_000) == []
    bench.found[sealed_name(order_id)] = RIGHT
    assert len(bench.duty.poll(2_000)) == 1 and bench.duty.poll(2_000 + REPEAT_AFTER_MS - 1) == []
    requests = bench.duty.poll(2_000 + REPEAT_AFTER_MS)
    assert world.ordered(*requests)[0].accepted and bench.duty.poll(100_000) == []


def test_who_claims_in_the_order_judges_nothing_in_it(world: World) -> None:
    order_id, bench = bring_to(world, Window.RELEASE), Bench(world)
    world.release(order_id, count=3)
    bench.found[sealed_name(order_id)] = RIGHT
    order = world.order(order_id)
    order.claims[world.aggregators[0].address] = order.claims[PROVIDERS[0].address]
    assert bench.duty.poll(0) == []
