"""The ledger as a whole: snapshots, audits, what it forgets, and what it never walks through."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from pot_lab.errors import InvariantBroken, Malformed
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.errors import WrongNetwork
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.order_index import OrderIndex
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.state import Account, LedgerState
from pot_lab.protocol.transactions import Put, Withdraw
from tests.protocol.scenes import MODELS, PROVIDERS, RESTING, SCORES, VALIDATORS, bring_to, finish, new_world
from tests.protocol.test_chain_events import staked
from tests.protocol.world import POT, World, key, snapshot_of, state_in


def earned(world: World, who: Any) -> int:
    return world.ledger.book.account(who.address).earned_grains


# --- batches and snapshots -----------------------------------------------------------------------------------------
def test_batches_out_of_order_are_a_fault_of_the_caller() -> None:
    world = World()
    world.batch()
    for sequence, time_ms in ((1, world.now_ms), (3, world.now_ms), (2, world.now_ms - 1)):
        with pytest.raises(InvariantBroken, match="out of order"):
            world.ledger.execute(sequence, time_ms, [])
    world.ledger.execute(2, world.now_ms, [])


def test_a_new_ledger_stands_before_its_first_batch_and_has_no_money() -> None:
    world = World()
    state = Ledger(world.genesis).state
    assert (state.sequence, state.time_ms, state.claim_places, state.next_chain_event) == (0, 0, 0, 0)
    pots = {name: value for name, value in structs.asdict(state).items() if name.endswith("_grains")}
    assert len(pots) >= 6 and set(pots.values()) == {0}


def test_every_batch_changes_the_digest_and_equal_histories_have_equal_digests() -> None:
    world = new_world()
    bring_to(world, Window.CHALLENGE)
    seen = {world.ledger.state.digest}
    for _ in range(5):
        world.batch()
        seen.add(world.ledger.state.digest)
    assert len(seen) == 6
    assert world.replayed().state.digest == world.ledger.state.digest


@pytest.mark.parametrize("window", RESTING)
def test_a_snapshot_is_canonical_and_comes_back_whole(window: Window) -> None:
    world = new_world()
    bring_to(world, window)
    snapshot = world.ledger.snapshot()
    other = Ledger(world.genesis)
    other.restore(snapshot)
    assert other.snapshot() == snapshot and other.state == world.ledger.state


def test_what_is_no_snapshot_of_this_network_is_refused_and_changes_nothing() -> None:
    world, other = World(), World(aggregators=5)
    before = world.ledger.snapshot()
    with pytest.raises(WrongNetwork):
        world.ledger.restore(other.ledger.snapshot())
    for bad in (b"", before[:-1], before + b"\x00", b"\x91" * 500):
        with pytest.raises(Malformed):
            world.ledger.restore(bad)
    assert world.ledger.snapshot() == before


def cooked(state: LedgerState, how: str) -> None:
    account = state.accounts[PROVIDERS[0].address]
    match how:
        case "stake":
            account.stakes[0].bonded += 1
        case "slashed":
            account.stakes[0].slashed += 1
        case "earned":
            account.earned_grains += 1
        case "escrow":
            next(iter(state.escrows.values())).reward_grains += 1
        case "deposited":
            state.deposited_grains += 1
        case "locked":
            account.stakes[0].locked = -1


@pytest.mark.parametrize("how", ["stake", "slashed", "earned", "escrow", "deposited", "locked"])
def test_a_snapshot_whose_money_does_not_add_up_is_not_taken_over(how: str) -> None:
    world = new_world()
    bring_to(world, Window.SCORE)
    state = state_in(world.ledger.snapshot())
    cooked(state, how)
    before = world.ledger.snapshot()
    with pytest.raises(InvariantBroken):
        world.ledger.restore(snapshot_of(state))
    assert world.ledger.snapshot() == before


# --- money ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reward", [POT // 100, POT // 100 + 1, 10**7 + 7, 25 * POT - 1, 10**18])
def test_odd_rewards_pay_out_to_the_grain(reward: int) -> None:
    world = new_world()
    for validator in VALIDATORS:  # even the largest reward finds its locks
        world.chain(staked(reward, 1, validator))
    for provider in PROVIDERS:
        world.chain(staked(reward, 0, provider))
    bond = world.parameters.client_bond_grains(reward) + 1
    order_id, order = world.start(reward_grains=reward, fee_grains=10**7 + 3, bond_grains=bond)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        world.claim(order_id, provider, model)
    world.wait_for(order_id, Window.REVEAL)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        world.reveal(order_id, provider, model)
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, SCORES).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    payouts = world.order(order_id).payouts
    assert sum(p.grains for p in payouts) == reward + order.fee_grains + order.bond_grains
    assert earned(world, PROVIDERS[1]) == reward * 8 // 10
    dust = sum(p.grains for p in payouts if p.reason == "rounding")
    assert earned(world, key("treasury")) == dust < 12
    finish(world)
    assert world.ledger.state.confirmed.total_grains == world.ledger.state.earned_grains


@pytest.mark.parametrize("reason", [VoidReason.NO_CLAIMS, VoidReason.NOTHING_REVEALED, VoidReason.NOT_RELEASED])
def test_who_gets_what_of_a_void_order(reason: VoidReason) -> None:
    world = new_world()
    window = {VoidReason.NO_CLAIMS: Window.COMMIT, VoidReason.NOTHING_REVEALED: Window.COMMIT}.get(
        reason, Window.RELEASE
    )
    order_id = bring_to(world, window, claimed=reason is not VoidReason.NO_CLAIMS)
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == reason
    bond = 2 * POT if reason is not VoidReason.NOT_RELEASED else 0
    assert earned(world, world.client) == 26 * POT + bond
    assert earned(world, PROVIDERS[0]) == (POT if reason is VoidReason.NOT_RELEASED else 0)
    slashed = world.ledger.state.slashed_grains
    assert slashed == (POT if reason is VoidReason.NOTHING_REVEALED else 0)


def test_a_validator_that_stays_away_loses_its_assignment_and_a_little_stake() -> None:
    world = new_world()
    order_id = bring_to(world, Window.SCORE)
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[1:]:
        assert world.open_scores(order_id, validator, SCORES).accepted
    away = world.ledger.state.accounts[VALIDATORS[0].address]
    seats = world.order(order_id).seats[0].count(VALIDATORS[0].address)
    assert (away.stakes[1].slashed, away.reputation.absences) == (
        min(seats * world.parameters.absence_grains(25 * POT), 25 * POT // 10),
        1,
    )
    assert world.order(order_id).window == Window.CHALLENGE


def test_a_slash_far_below_the_minimum_ends_a_registration_and_takes_no_more_than_there_is() -> None:
    world = World()
    poor = key("poor")
    world.stake(poor, Role.PROVIDER, 10 * POT)
    order_id, _ = world.start()
    assert world.claim(order_id, poor, "x").accepted
    world.wait_for(order_id, Window.VOID)
    account = world.ledger.state.accounts[poor.address]
    assert account.active[0] and account.stakes[0].bonded == 9 * POT, "a quarter of the minimum may be missing"
    book = world.ledger.book
    book.slash(poor.address, Role.PROVIDER, 2 * POT, "test")
    assert not account.active[0]
    book.slash(poor.address, Role.PROVIDER, 10**6 * POT, "test")
    assert (account.stakes[0].bonded, account.stakes[0].slashed) == (0, 10 * POT)
    book.audit()


def test_an_order_is_judged_by_the_parameters_in_force_at_its_start() -> None:
    world = new_world()
    order = world.new_order()
    world.must(world.client, Put(order))
    state = world.ledger.state
    state.parameters = structs.replace(state.parameters, winner_bp=9_000, validators_bp=500)
    world.escrow(order)
    in_force = state.parameters
    state.parameters = structs.replace(state.parameters, winner_bp=5_000)
    assert world.claim(order.id, PROVIDERS[1], MODELS[1]).accepted
    world.wait_for(order.id, Window.REVEAL)
    assert world.reveal(order.id, PROVIDERS[1], MODELS[1]).accepted
    world.release(order.id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order.id, validator, {MODELS[1]: 90}).accepted
    world.wait_for(order.id, Window.FINALIZATION)
    assert world.order(order.id).parameters == in_force
    assert earned(world, PROVIDERS[1]) == order.reward_grains * 9 // 10


# --- what is forgotten ---------------------------------------------------------------------------------------------
def test_an_order_without_money_is_forgotten_with_its_account() -> None:
    world = World()
    sybil = key("sybil")
    order = world.new_order(client=sybil.address)
    world.must(sybil, Put(order))
    world.wait(world.parameters.pool_ms)
    assert world.order(order.id).void_reason == VoidReason.NO_ESCROW, "it can be seen for a while why it ended"
    world.wait(world.parameters.pool_ms - 1)
    assert order.id in world.ledger.state.orders
    world.wait(1)
    assert not world.ledger.state.orders and not world.ledger.state.headers
    assert sybil.address not in world.ledger.state.accounts


def test_an_account_with_anything_of_its_own_is_kept() -> None:
    world = World()
    staker, busy = key("staker"), key("busy")
    world.stake(staker, Role.PROVIDER)
    for who in (staker, busy):
        for nonce in range(2):
            order = world.new_order(client=who.address, nonce=len(world.shares) + 50 + nonce)
            world.must(who, Put(order))
            world.must(who, Withdraw(order.id)) if nonce == 0 else None
    world.wait(world.parameters.pool_ms)
    assert busy.address in world.ledger.state.accounts, "its second order has only just expired"
    world.wait(world.parameters.pool_ms)
    assert staker.address in world.ledger.state.accounts and busy.address not in world.ledger.state.accounts
    assert Account() == Account(nonce=0)


def test_a_batch_looks_only_at_orders_that_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(parameters=structs.replace(World().parameters, max_live_orders_per_account=10_000))
    for nonce in range(1, 300):
        world.must(world.client, Put(world.new_order(nonce=nonce)))
    looked: list[str] = []

    class Watched(dict[bytes, Any]):
        def __iter__(self) -> Any:
            looked.append("iter")
            return super().__iter__()

        def items(self) -> Any:
            looked.append("items")
            return super().items()

        def values(self) -> Any:
            looked.append("values")
            return super().values()

    world.ledger.state.orders = Watched(world.ledger.state.orders)
    sequence = world.ledger.state.sequence
    put = world.signed(world.client, Put(world.new_order(nonce=5_000)))
    from pot_lab.protocol.transactions import open_transaction

    replies, _ = world.ledger.execute(sequence + 1, world.now_ms + 1, [open_transaction(put, world.network_id)])
    assert replies[0].accepted and world.ledger.due_ms() is not None
    assert looked == []


# --- the index -----------------------------------------------------------------------------------------------------
def test_deadlines_come_in_order_and_changed_ones_are_skipped() -> None:
    alarms = OrderIndex({}).deadlines
    for order_id, time_ms in ((b"c", 5), (b"a", 5), (b"b", 3), (b"d", 9)):
        alarms.set(order_id, time_ms)
    alarms.set(b"b", 7)
    alarms.set(b"d", None)
    assert alarms.next_ms() == 5
    assert alarms.due(4) == [] and alarms.due(7) == [b"a", b"c", b"b"]
    assert alarms.next_ms() is None and alarms.due(1 << 60) == []
    alarms.set(b"a", 5)
    alarms.set(b"a", 6)
    alarms.set(b"a", 5)
    assert alarms.due(10) == [b"a"], "a time that was changed and changed back is due once"
