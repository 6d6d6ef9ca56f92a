"""Parameters change by vote: who may propose and vote, what it takes, when it takes force, and for which orders."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import Identity
from pot_lab.protocol import governance
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import _BOUNDS, Parameters, Role
from pot_lab.protocol.proposals import FIXED, ParameterChange, change, changed
from pot_lab.protocol.queries import query
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Propose, Put, Unregister, Vote
from pot_lab.protocol.views import GovernanceView
from tests.protocol.scenes import PROVIDERS, VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import PARAMETERS, POT, World, key

DAY_MS = 86_400_000
VOTERS = [*PROVIDERS, *VALIDATORS]
"""Six members with 200 POT each."""


def chain_event(kind: str, who: Identity, role: Role, grains: int) -> ChainEvent:
    detail = {"staked": (grains,), "unstake_requested": (0, 9), "withdrawn": ()}[kind]
    return ChainEvent(
        kind=kind, block=1, log_index=0, account=who.address, role=int(role), amount_grains=grains, subject=b"",
        detail=detail,
    )  # fmt: skip


def propose(world: World, who: Identity = PROVIDERS[0], role: Role = Role.PROVIDER, /, **values: Any) -> int:
    """The number of a new proposal with these values."""
    body = Propose(int(role), tuple(change(name, value) for name, value in values.items()))
    return int.from_bytes(world.must(who, body).result, "big")


def vote(world: World, number: int, yes: int, no: int = 0) -> None:
    """So many of the six members vote for it, so many against it."""
    for voter in VOTERS[:yes]:
        world.must(voter, Vote(number, True))
    for voter in VOTERS[yes : yes + no]:
        world.must(voter, Vote(number, False))


def pass_(world: World, **values: Any) -> int:
    """Propose, have all vote for it, and wait until it is in force."""
    number = propose(world, **values)
    vote(world, number, 6)
    world.wait(world.ledger.state.parameters.voting_ms)
    world.wait(world.ledger.state.parameters.timelock_ms)
    return number


def outcome(world: World, number: int) -> str:
    return next(end.outcome for end in world.ledger.state.governance.ended if end.number == number)


def view(world: World) -> GovernanceView:
    return decode(query(world.ledger, "governance", b""), GovernanceView, limit_bytes=1 << 20)


def test_what_passes_is_in_force_after_the_vote_and_the_delay_and_not_before() -> None:
    world = new_world()
    number = propose(world, update_ms=5_000, treasury=key("new treasury").address)
    vote(world, number, 4)
    before = world.ledger.state.parameters
    world.wait(before.voting_ms - 1)
    assert view(world).proposals[0].outcome == "voting"
    world.wait(1)
    assert world.ledger.state.parameters == before and view(world).proposals[0].outcome == "passed"
    world.wait(before.timelock_ms - 1)
    assert world.ledger.state.parameters == before
    world.wait(1)
    assert world.ledger.state.parameters == structs.replace(
        before, update_ms=5_000, treasury=key("new treasury").address
    )
    assert outcome(world, number) == "in force" and not world.ledger.state.governance.proposals
    assert (view(world).parameters.update_ms, view(world).proposals[0].outcome) == (5_000, "in force")
    assert world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER).locked == 0
    assert world.replayed().snapshot() == world.ledger.snapshot()


@pytest.mark.parametrize(
    ("yes", "no", "ends", "bond_back"),
    [
        (3, 0, "in force", True),  # half of the stake voted, more than the quorum
        (2, 0, "lapsed", False),  # a third is no quorum
        (0, 0, "lapsed", False),
        (4, 2, "rejected", True),  # 66.66 % is less than the majority asks
        (2, 4, "rejected", True),
        (1, 5, "rejected", False),  # less than a third of the votes
        (0, 6, "rejected", False),
    ],
)
def test_what_it_takes_to_pass_and_when_the_bond_comes_back(yes: int, no: int, ends: str, bond_back: bool) -> None:
    world = new_world()
    number = propose(world, VALIDATORS[3], Role.VALIDATOR, update_ms=5_000)
    vote(world, number, yes, no)
    world.wait(world.parameters.voting_ms)
    world.wait(world.parameters.timelock_ms)
    stake = world.ledger.book.stake(VALIDATORS[3].address, Role.VALIDATOR)
    assert outcome(world, number) == ends and stake.locked == 0
    assert (world.ledger.state.parameters.update_ms == 5_000) == (ends == "in force")
    assert stake.slashed == (0 if bond_back else world.parameters.proposal_bond_grains)


def test_every_parameter_but_the_chains_can_be_changed_within_its_bounds() -> None:
    usual = Parameters()
    for name in Parameters.__struct_fields__:
        if name in FIXED:
            continue
        value = getattr(usual, name)
        other = key("other").address if isinstance(value, bytes) else value
        if isinstance(value, tuple):
            other = (value[0] + 1, *value[1:])
        elif isinstance(value, int):
            other = value - 1
        assert getattr(changed(usual, (change(name, other),)), name) == other


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ((change("gravity", 1),), "BadProposal"),
        ((change("unbonding_ms", 30 * DAY_MS),), "BadProposal"),
        ((change("__class__", 1),), "BadProposal"),
        ((change("update_ms", 1),), "BadParameter"),
        ((change("update_ms", -1),), "BadParameter"),
        ((change("update_ms", PARAMETERS.update_ms),), "BadProposal"),
        ((change("update_ms", 5_000), change("update_ms", 6_000)), "BadProposal"),
        ((change("update_ms", "5000"),), "BadProposal"),
        ((change("update_ms", True),), "BadProposal"),
        ((change("usual_windows_ms", (60_000,) * 6),), "BadProposal"),
        ((change("treasury", b"\x01" * 19),), "BadParameter"),
        ((change("quorum_bp", 3_333),), "BadParameter"),
        ((change("majority_bp", 5_000),), "BadParameter"),
        ((change("winner_bp", 9_000),), "BadParameter"),
        ((change("voting_ms", 20 * DAY_MS),), "BadParameter"),
        ((change("min_stake_grains", (10**10, 2 * 10**10, 5 * 10**9, 10**12)),), "BadParameter"),
        ((ParameterChange("update_ms", b""),), "BadProposal"),
        ((ParameterChange("update_ms", encode(5_000) + b"\x00"),), "BadProposal"),
        ((ParameterChange("update_ms", bytes(4_000)),), "Oversize"),
        ((ParameterChange("x" * 9_000, b""),), "BadProposal"),
        ((), "Malformed"),
        (tuple(change("update_ms", 5_000 + i) for i in range(257)), "Malformed"),
    ],
)
def test_what_cannot_be_proposed(changes: tuple[ParameterChange, ...], code: str) -> None:
    world = new_world()
    assert world.submit(PROVIDERS[0], Propose(0, changes)).code == code


@pytest.mark.parametrize(("name", "low", "high"), _BOUNDS, ids=[name for name, _, _ in _BOUNDS])
def test_no_vote_leaves_a_hard_bound(name: str, low: int, high: int) -> None:
    world = new_world()
    for value in (low - 1, high + 1):
        code = world.submit(PROVIDERS[0], Propose(0, (change(name, value),))).code
        assert code == ("BadProposal" if name in FIXED else "BadParameter")


def test_who_may_propose_and_vote() -> None:
    world = new_world()
    body, stranger = Propose(0, (change("update_ms", 5_000),)), key("stranger")
    assert world.submit(stranger, body).code == "NotAllowed"
    assert world.submit(VALIDATORS[0], body).code == "NotAllowed", "a validator is no provider"
    assert world.submit(VALIDATORS[0], Propose(9, body.changes)).code == "Malformed"
    assert world.submit(VALIDATORS[0], Propose(-1, body.changes)).code == "Malformed"
    number = propose(world, update_ms=5_000)
    world.stake(stranger, Role.VERIFIER)
    assert world.submit(stranger, Vote(number, True)).code == "NotAllowed", "it came after the vote had begun"
    assert world.submit(VALIDATORS[0], Vote(number + 1, True)).code == "BadProposal"
    assert world.submit(VALIDATORS[0], Vote(-1, True)).code == "BadProposal"
    world.must(VALIDATORS[0], Vote(number, False))
    assert world.submit(VALIDATORS[0], Vote(number, True)).code == "AlreadyDone"


def test_the_bond_is_stake_beyond_the_least_and_free() -> None:
    world = new_world()
    poor = key("poor")
    least, bond = world.parameters.min_stake_grains[Role.PROVIDER], world.parameters.proposal_bond_grains
    world.stake(poor, Role.PROVIDER, least + bond - 1)
    body = Propose(0, (change("update_ms", 5_000),))
    assert world.submit(poor, body).code == "InsufficientStake"
    world.chain(chain_event("staked", poor, Role.PROVIDER, 1))
    world.must(poor, body)
    assert world.ledger.book.free(poor.address, Role.PROVIDER) == least


def test_a_bond_that_is_unbonding_is_taken_all_the_same() -> None:
    world = new_world()
    number = propose(world, update_ms=5_000)
    world.chain(chain_event("unstake_requested", PROVIDERS[0], Role.PROVIDER, 200 * POT))
    world.wait(world.parameters.voting_ms)
    stake = world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER)
    assert outcome(world, number) == "lapsed"
    assert (stake.slashed, stake.unbonding) == (10 * POT, 190 * POT)


def test_an_order_that_runs_keeps_its_parameters_and_one_that_waits_gets_the_new_ones() -> None:
    slow = structs.replace(PARAMETERS, pool_ms=7 * DAY_MS, voting_ms=2_000, timelock_ms=2_000, min_validators=6)
    world = new_world(slow)
    live, _ = world.start()
    waiting = world.new_order()
    world.must(world.client, Put(waiting))
    for validator in VALIDATORS[:2]:  # too few for another order to start
        world.must(validator, Unregister(int(Role.VALIDATOR)))
    world.escrow(waiting)
    assert world.order(waiting.id).window == Window.WAITING
    number = propose(world, winner_bp=7_000, min_validators=3)
    for voter in (*PROVIDERS, *VALIDATORS[2:]):
        world.must(voter, Vote(number, True))
    world.wait(4_000)
    assert outcome(world, number) == "in force"
    assert world.order(live).parameters.winner_bp == 8_000
    assert world.order(waiting.id).window == Window.COMMIT
    assert world.order(waiting.id).parameters.winner_bp == 7_000


def test_a_waiting_order_that_no_longer_fits_ends_void_with_everything_back() -> None:
    world = new_world(structs.replace(PARAMETERS, pool_ms=7 * DAY_MS, voting_ms=2_000, timelock_ms=2_000))
    for validator in VALIDATORS[:2]:
        world.must(validator, Unregister(int(Role.VALIDATOR)))
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(order)
    number = propose(world, client_bond_bp=9_000)  # of the reward of 25 POT; the order has 2 POT
    for voter in (*PROVIDERS, *VALIDATORS[2:]):
        world.must(voter, Vote(number, True))
    world.wait(4_000)
    ended = world.order(order.id)
    assert (ended.window, ended.void_reason) == (Window.VOID, VoidReason.PARAMETERS_CHANGED)
    assert {payout.account for payout in ended.payouts} == {world.client.address}


def test_a_longer_timeout_holds_up_no_round_of_an_order_that_counts_on_a_shorter_one() -> None:
    world = new_world(structs.replace(PARAMETERS, voting_ms=1_000, timelock_ms=1_000))
    order_id = bring_to(world, Window.FINALIZATION)
    number = propose(world, settlement_timeout_ms=7 * DAY_MS)
    vote(world, number, 6)
    world.wait(2_000)
    assert world.ledger.state.parameters.settlement_timeout_ms == 7 * DAY_MS
    pending = world.ledger.state.pending
    assert pending is not None and pending.order_ids == [order_id]
    round_ = pending.settlement.round
    world.wait(PARAMETERS.settlement_timeout_ms)
    assert world.ledger.state.pending.settlement.round > round_


def test_a_shorter_update_cycle_is_in_force_at_once() -> None:
    world = new_world(structs.replace(PARAMETERS, update_ms=10 * DAY_MS, voting_ms=1_000, timelock_ms=1_000))
    bring_to(world, Window.FINALIZATION)
    finish(world)
    bring_to(world, Window.FINALIZATION)
    pass_(world, update_ms=1_000)
    world.wait(1_000)
    assert world.ledger.state.pending is not None


def test_a_raised_minimum_ends_registrations_that_are_too_far_under_it() -> None:
    world = new_world(structs.replace(PARAMETERS, voting_ms=1_000, timelock_ms=1_000))
    small = key("small")
    world.stake(small, Role.VALIDATOR, 20 * POT)
    least = list(PARAMETERS.min_stake_grains)
    least[Role.VALIDATOR] = 100 * POT
    pass_(world, min_stake_grains=tuple(least))
    assert not world.ledger.state.accounts[small.address].active[Role.VALIDATOR]
    assert all(world.ledger.state.accounts[each.address].active[Role.VALIDATOR] for each in VALIDATORS)


def test_a_minimum_that_too_few_aggregators_have_is_impossible_when_it_would_take_force() -> None:
    world = new_world(structs.replace(PARAMETERS, voting_ms=1_000, timelock_ms=1_000))
    for aggregator in world.aggregators:
        world.chain(chain_event("staked", aggregator, Role.AGGREGATOR, 200 * POT))
    least = (*PARAMETERS.min_stake_grains[:3], 150 * POT)
    number = propose(world, min_stake_grains=least)
    vote(world, number, 6)
    for aggregator in world.aggregators[:2]:
        world.chain(chain_event("unstake_requested", aggregator, Role.AGGREGATOR, 80 * POT))
    world.wait(2_000)
    assert outcome(world, number) == "impossible"
    assert world.ledger.state.parameters == world.parameters


def test_a_vote_is_counted_by_the_rules_of_its_beginning() -> None:
    world = new_world(structs.replace(PARAMETERS, voting_ms=2_000, timelock_ms=1_000))
    first = propose(world, quorum_bp=9_000, voting_ms=5_000)
    vote(world, first, 6)
    world.wait(1_500)
    second = propose(world, VALIDATORS[0], Role.VALIDATOR, update_ms=5_000)
    vote(world, second, 3)
    world.wait(2_000)
    assert outcome(world, first) == "in force"
    world.wait(1_500)
    assert outcome(world, second) == "in force"


def test_restored_and_replayed_ledgers_agree_at_every_step() -> None:
    world = new_world()
    number = propose(world, update_ms=5_000)

    def restart() -> None:
        restored = Ledger(world.genesis)
        restored.restore(world.ledger.snapshot())
        assert restored.due_ms() == world.ledger.due_ms()
        assert query(restored, "governance", b"") == query(world.ledger, "governance", b"")
        world.ledger = restored
        assert world.replayed().snapshot() == world.ledger.snapshot()

    restart()
    vote(world, number, 3, 1)
    restart()
    world.wait(world.parameters.voting_ms)
    restart()
    world.wait(world.parameters.timelock_ms)
    restart()
    assert world.ledger.state.parameters.update_ms == 5_000


def test_ended_proposals_are_remembered_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(governance, "MAX_ENDED", 2)
    world = new_world(structs.replace(PARAMETERS, voting_ms=1_000, timelock_ms=1_000))
    numbers = [pass_(world, update_ms=5_000 + i) for i in range(3)]
    assert [end.number for end in world.ledger.state.governance.ended] == numbers[1:]
