"""Aggregators that give no verdict on test data: the client that left them the usual time keeps its bond, and one that
makes data on purpose that nobody judges gets nothing for what its order costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pot_lab.network.duties.prepare_judging import PrepareJudging
from pot_lab.protocol import records, rewards
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.orders import opening
from pot_lab.protocol.records import OrderRecord
from pot_lab.protocol.transactions import Put
from tests.network.duties.test_judge import HeldJudges
from tests.network.duties.test_prepare_judging import sealed as sealed_test
from tests.protocol.scenes import PROVIDERS, bring_to, new_world
from tests.protocol.world import PARAMETERS, POT, World

USUAL = structs.replace(PARAMETERS, usual_windows_ms=(5_000,) * 7)
"""A network whose usual windows are those of the orders here."""


def unjudged(world: World, *, open_models: bool = False) -> tuple[bytes, int]:
    """An order whose test data get no verdict in two windows; what its client loses."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id, count=3)
    world.must(world.aggregators[0], world.right(order_id))  # f of them may say what they like
    if open_models:
        world.open_models(order_id)
    world.wait_for(order_id, Window.VOID)
    order = world.order(order_id).order
    put = order.reward_grains + order.fee_grains + order.bond_grains
    return order_id, put - int(world.ledger.book.account(world.client.address).earned_grains)


def models_seen(world: World, order_id: bytes) -> int:
    return sum(bool(claim.sealed and claim.sealed.key) for claim in world.order(order_id).claims.values())


# --- an honest client ---------------------------------------------------------------------------------------------
def test_silence_of_the_judges_takes_no_bond_and_at_most_the_fee() -> None:
    world = new_world(USUAL)
    order_id, lost = unjudged(world)
    order = world.order(order_id)
    assert order.void_reason is VoidReason.TEST_DATA_NOT_JUDGED and order.released_twice
    assert lost == order.order.fee_grains == POT
    paid = {(each.account, each.reason): each.grains for each in order.payouts}
    assert paid == {
        (world.client.address, "reward back"): 25 * POT,
        (world.client.address, "bond back"): 2 * POT,
        **{(each.address, "training in vain"): POT // 2 for each in PROVIDERS},
    }
    assert sorted(order.missed) == sorted(each.address for each in world.aggregators[1:]), "who was silent is idle"


def test_were_it_laid_on_the_client_silence_would_rob_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderRecord, "leaves_time_to_judge", lambda self, parameters: False)
    world = new_world(USUAL)
    _, lost = unjudged(world)
    assert lost == 3 * POT


def test_verdicts_that_say_wrong_cost_the_bond_as_before() -> None:
    world = new_world(USUAL)
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id, count=3)
    world.judge(order_id, right=False)
    order = world.order(order_id)
    assert order.void_reason is VoidReason.INVALID_TEST_DATA
    assert not any(each.account == world.client.address and each.reason == "bond back" for each in order.payouts)


# --- a client whose data nobody judges on purpose --------------------------------------------------------------------
def test_a_client_whose_data_nobody_judges_pays_and_sees_no_model() -> None:
    world = new_world(USUAL)
    order_id, lost = unjudged(world)
    assert lost == POT and models_seen(world, order_id) == 0


def test_did_models_not_wait_for_the_verdict_it_would_see_them_for_a_fee(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "models_may_open", lambda order: True)
    world = new_world(USUAL)
    order_id, lost = unjudged(world, open_models=True)
    assert (lost, models_seen(world, order_id)) == (POT, 2)


def test_were_the_fee_not_sunk_it_could_have_others_train_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = rewards.void_payouts

    def free(escrow: Any, parameters: Any, reason: VoidReason, *rest: Any, **named: Any) -> Any:
        forgiven = VoidReason.NOT_JUDGED if reason is VoidReason.TEST_DATA_NOT_JUDGED else reason
        return original(escrow, parameters, forgiven, *rest, **named)

    monkeypatch.setattr("pot_lab.protocol.orders.sealing.void_payouts", free)
    assert unjudged(new_world(USUAL))[1] == 0


def test_an_accomplice_gets_no_more_back_than_its_claim_bonded() -> None:
    world = new_world(structs.replace(USUAL, min_claim_bond_grains=POT // 4))
    world.start = lambda start=world.start: start(claim_bond_grains=POT // 4)  # type: ignore[method-assign, misc]
    order_id, lost = unjudged(world)
    assert lost == 2 * (POT // 4)
    back = [each.grains for each in world.order(order_id).payouts if each.reason == "fee back"]
    assert back == [POT // 2]


# --- sizes that no aggregator would begin with ---------------------------------------------------------------------
def promising(world: World, plain_bytes: int) -> OrderRecord:
    order = world.new_order()
    return structs.replace(order, test=structs.replace(order.test, plain_bytes=plain_bytes))


def test_nobody_promises_more_test_data_than_are_sealed() -> None:
    world = new_world(USUAL)
    for plain_bytes in (0, 1_001, 1 << 49):
        assert world.submit(world.client, Put(promising(world, plain_bytes))).code == "BadOrder"
    assert world.submit(world.client, Put(promising(world, 1_000))).accepted


def test_otherwise_judges_would_wait_for_room_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records.TestData, "check_size", lambda self: None)
    world = new_world(USUAL)
    assert world.submit(world.client, Put(promising(world, 1 << 49))).accepted

    class Due:
        def note(self, events: object) -> None:
            pass

        def due(self) -> dict[bytes, object]:
            return {b"order": sealed_test(1 << 49)}

        def is_one_near(self) -> bool:
            return False

    judges = HeldJudges()
    duty = PrepareJudging(Due(), tmp_path / "judging", judges)  # type: ignore[arg-type]
    for now_ms in range(0, 100_000, 1_000):
        duty.poll(now_ms)
    assert not judges.bodies and duty.verdict_of(b"order") is None
