"""One order from Put to payout on the ledger alone, and every way in which it can end."""

from __future__ import annotations

import pytest

from pot_lab.crypto.canonical import decode, encode
from pot_lab.protocol import queries, views
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.settlement import reward_leaf, verify_proof
from pot_lab.protocol.transactions import Put
from tests.protocol.world import POT, World, key

PROVIDERS = [key(f"provider {i}") for i in range(3)]
VALIDATORS = [key(f"validator {i}") for i in range(4)]
SCORES = {"model 0": 80, "model 1": 95, "model 2": 90}


@pytest.fixture
def world() -> World:
    world = World()
    for provider in PROVIDERS:
        world.stake(provider, Role.PROVIDER)
    for validator in VALIDATORS:
        world.stake(validator, Role.VALIDATOR)
    return world


def to_scores(world: World, **changes) -> bytes:
    """Bring an order to its score window with three revealed models."""
    order_id, _ = world.start(**changes)
    for provider, model in zip(PROVIDERS, SCORES, strict=True):
        assert world.claim(order_id, provider, model).accepted
    world.wait_for(order_id, Window.REVEAL)
    for provider, model in zip(PROVIDERS, SCORES, strict=True):
        assert world.reveal(order_id, provider, model).accepted
    assert world.order(order_id).window == Window.RELEASE, "the reveal window closes when all have revealed"
    world.release(order_id)
    assert world.order(order_id).window == Window.SCORE
    return order_id


def score(world: World, order_id: bytes, scores: dict[str, int] = SCORES, validators=tuple(VALIDATORS)) -> None:
    for validator in validators:
        assert world.commit_scores(order_id, validator, scores).accepted
    if world.order(order_id).window == Window.SCORE:
        world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in validators:
        assert world.open_scores(order_id, validator, scores).accepted


def earned(world: World, identity) -> int:
    return world.ledger.book.account(identity.address).earned_grains


def test_an_order_runs_from_put_to_payout(world: World) -> None:
    order_id = to_scores(world)
    score(world, order_id)
    assert world.order(order_id).window == Window.CHALLENGE
    world.wait_for(order_id, Window.FINALIZATION)
    order = world.order(order_id)
    assert order.winner == PROVIDERS[1].address
    assert earned(world, PROVIDERS[1]) == 20 * POT
    rounding = earned(world, key("treasury"))
    assert sum(earned(world, v) for v in VALIDATORS) == 25 * POT * 15 // 100 + POT - rounding, "15 %, and the fee"
    assert rounding < 8
    assert earned(world, world.client) == 2 * POT, "its bond back"
    assert sum(p.grains for p in order.payouts) == 28 * POT
    world.wait(1_100)
    world.sign_epoch()
    assert any(event.kind == "epoch_signed" for event in world.events)
    world.settle()
    assert world.order(order_id).window == Window.SETTLED
    account = decode(
        queries.query(world.ledger, "account", encode(views.AccountQuery(PROVIDERS[1].address))),
        views.AccountView,
        limit_bytes=10_000,
    )
    leaf = reward_leaf(PROVIDERS[1].address, account.claimable_cumulative_grains)
    assert verify_proof(world.ledger.state.confirmed.root, leaf, list(account.claim_proof))
    spans = [span.window for span in order.timeline]
    assert spans == [
        "waiting", "commit", "reveal", "release", "score", "open_scores", "challenge", "open_challenges", "judge",
        "finalization",
    ]  # fmt: skip


def test_the_escrow_may_arrive_before_the_record(world: World) -> None:
    order = world.new_order()
    world.escrow(order)
    world.must(world.client, Put(order))
    assert world.order(order.id).window == Window.COMMIT


def test_an_order_without_escrow_expires(world: World) -> None:
    order = world.new_order()
    world.must(world.client, Put(order))
    world.wait(world.parameters.pool_ms)
    assert world.order(order.id).void_reason == VoidReason.NO_ESCROW


def test_a_later_claim_takes_a_later_place_in_ties(world: World) -> None:
    order_id, _ = world.start()
    world.claim(order_id, PROVIDERS[0], "first try")
    world.claim(order_id, PROVIDERS[1], "model 1")
    world.claim(order_id, PROVIDERS[0], "model 0")
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[0], "first try").code == "BadCommitment"
    world.reveal(order_id, PROVIDERS[0], "model 0")
    world.reveal(order_id, PROVIDERS[1], "model 1")
    world.release(order_id)
    score(world, order_id, {"model 0": 90, "model 1": 90})
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.order(order_id).winner == PROVIDERS[1].address


def test_an_unrevealed_claim_loses_its_bond(world: World) -> None:
    order_id, _ = world.start()
    world.claim(order_id, PROVIDERS[0], "model 0")
    world.claim(order_id, PROVIDERS[1], "model 1")
    world.wait_for(order_id, Window.REVEAL)
    world.reveal(order_id, PROVIDERS[1], "model 1")
    world.wait_for(order_id, Window.RELEASE)
    stake = world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER)
    assert (stake.bonded, stake.locked, stake.slashed) == (199 * POT, 0, POT)


@pytest.mark.parametrize(
    "reason", ["no claims", "nothing revealed", "test data not released", "no quorum of validations"]
)
def test_every_void_end_gives_the_reward_back(world: World, reason: str) -> None:
    order_id, order = world.start()
    if reason != "no claims":
        world.claim(order_id, PROVIDERS[0], "model 0")
        world.wait_for(order_id, Window.REVEAL)
    if reason in ("test data not released", "no quorum of validations"):
        world.reveal(order_id, PROVIDERS[0], "model 0")
    if reason == "no quorum of validations":
        world.release(order_id)
        score(world, order_id, {"model 0": 50}, VALIDATORS[:2])
        assert world.order(order_id).extended, "one more try before it ends void"
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == reason
    bond_to = PROVIDERS[0] if reason == "test data not released" else world.client
    assert earned(world, bond_to) >= order.bond_grains
    assert earned(world, world.client) >= order.reward_grains
    assert all(stake.locked == 0 for account in world.ledger.state.accounts.values() for stake in account.stakes)
    world.wait(1_100)
    world.sign_epoch()
    world.settle()
    assert order_id not in world.ledger.state.unsettled


def test_one_model_below_the_baseline_is_no_improvement(world: World) -> None:
    order_id = to_scores(world, baseline_total=94, baseline_count=100, margin_micro=10_001)
    score(world, order_id)
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == VoidReason.NO_IMPROVEMENT


def test_disagreeing_validators_do_not_decide(world: World) -> None:
    order_id = to_scores(world)
    for validator, total in zip(VALIDATORS, (95, 95, 95, 96), strict=True):
        world.commit_scores(order_id, validator, {**SCORES, "model 1": total})
    for validator, total in zip(VALIDATORS, (95, 95, 95, 96), strict=True):
        world.open_scores(order_id, validator, {**SCORES, "model 1": total})
    world.wait_for(order_id, Window.FINALIZATION)
    order = world.order(order_id)
    assert order.winner == PROVIDERS[1].address
    paid = {payout.account for payout in order.payouts if payout.reason == "validator"}
    assert VALIDATORS[3].address not in paid and len(paid) == 3


def test_a_refund_before_the_settlement_takes_the_payouts_back(world: World) -> None:
    from pot_lab.protocol.records import ChainEvent

    order_id = to_scores(world)
    score(world, order_id)
    world.wait_for(order_id, Window.FINALIZATION)
    world.wait(1_100)
    assert world.ledger.state.pending is not None
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=5,
            log_index=0,
            account=world.client.address,
            role=-1,
            amount_grains=25 * POT,
            subject=order_id,
            detail=(),
        )
    )
    assert world.order(order_id).void_reason == VoidReason.REFUNDED
    assert world.ledger.state.pending is None
    assert earned(world, PROVIDERS[1]) == 0


def test_a_snapshot_is_the_whole_state(world: World) -> None:
    order_id = to_scores(world)
    score(world, order_id)
    other = Ledger(world.genesis)
    other.restore(world.ledger.snapshot())
    assert other.snapshot() == world.ledger.snapshot()
    world.now_ms += 10_000
    replies = other.execute(other.state.sequence + 1, world.now_ms, [])
    assert world.ledger.execute(world.ledger.state.sequence + 1, world.now_ms, []) == replies
    assert other.state.digest == world.ledger.state.digest


def test_an_unconfirmed_epoch_is_signed_again_in_a_new_round(world: World) -> None:
    order_id = to_scores(world)
    score(world, order_id)
    world.wait_for(order_id, Window.FINALIZATION)
    world.wait(1_100)
    world.sign_epoch()
    world.wait(world.parameters.settlement_timeout_ms)
    pending = world.ledger.state.pending
    assert pending is not None and pending.settlement.round == 2 and not pending.signatures
    world.sign_epoch()
    world.settle()
    assert world.order(order_id).window == Window.SETTLED


def test_an_invalid_score_ranks_last_whatever_its_total(world: World) -> None:
    world.invalid = {"model 1"}
    order_id = to_scores(world)
    score(world, order_id)
    world.wait_for(order_id, Window.FINALIZATION)
    order = world.order(order_id)
    assert order.winner == PROVIDERS[2].address, "the best of those that could be scored"
    assert order.claims[PROVIDERS[1].address].agreed is not None, "that it is invalid was agreed"


def test_an_order_whose_models_are_all_invalid_has_no_winner(world: World) -> None:
    world.invalid = set(SCORES)
    order_id = to_scores(world)
    score(world, order_id)
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == VoidReason.NO_IMPROVEMENT
