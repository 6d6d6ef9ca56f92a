"""What others get of slashed stakes: how much, and not before the settlement contract has it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import Wide, decode, encode
from pot_lab.crypto.identity import Identity
from pot_lab.protocol import dues, views
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.epochs import WORTH_AN_EPOCH_GRAINS
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.queries import query
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.state import LedgerState
from pot_lab.protocol.transactions import Verdict
from tests.attacks.test_lying_seats import GOOD, cartel, judge, scored, winner
from tests.protocol.scenes import PROVIDERS, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT, World, state_in

LOCK = 25 * POT // 10


def due(world: World) -> dict[bytes, int]:
    return dict(world.ledger.state.dues)


def earned(world: World, who: Identity) -> int:
    return int(world.ledger.book.account(who.address).earned_grains)


def settle(world: World) -> None:
    """The next epoch is signed, and the chain confirms it."""
    while world.ledger.state.pending is None:
        world.wait(world.parameters.update_ms)
    world.sign_epoch()
    world.settle()


def funded(grains: int) -> ChainEvent:
    return ChainEvent(
        kind="funded", block=9, log_index=1, account=GOOD.address, role=-1, amount_grains=grains, subject=b"", detail=()
    )


def told(world: World) -> views.EpochView:
    return decode(query(world.ledger, "epoch", b""), views.EpochView, limit_bytes=1 << 20)


def test_who_proves_all_seats_wrong_gets_half_of_their_locks() -> None:
    world = new_world()
    order_id, _ = cartel(world)
    assert due(world) == {GOOD.address: 4 * LOCK // 2}
    assert {(each.account, each.reason) for each in world.order(order_id).dues} == {(GOOD.address, "wrong score")}
    assert world.ledger.state.treasury_due_grains == 4 * LOCK // 2


def test_where_scores_differ_the_seats_that_scored_right_share_it() -> None:
    world = new_world()
    order_id = scored(world, 2)
    judge(world, order_id)
    winner(world, order_id)
    seats, honest = Counter(world.order(order_id).seats[0]), [each.address for each in VALIDATORS[2:]]
    both = sum(seats[each] for each in honest)
    assert due(world).keys() == set(honest)
    assert all(abs(due(world)[each] - LOCK * seats[each] / both) <= 4 for each in honest)


def test_a_lost_challenge_pays_half_of_its_bond_to_the_seats_that_it_accused() -> None:
    world = new_world()
    order_id = bring_to(world, Window.JUDGE)
    name = world.order(order_id).disputes[0].name
    world.wait_for(order_id, Window.JUDGE)
    for aggregator in (world.aggregators[0], world.aggregators[2]):
        world.must(aggregator, Verdict(order_id, name, True))
    winner(world, order_id)
    bond = world.parameters.challenge_bond_grains(25 * POT)
    assert world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER).slashed == bond
    assert sum(due(world).values()) == pytest.approx(bond // 2, abs=4)
    assert due(world).keys() == {each.address for each in VALIDATORS}


def test_it_is_earned_once_the_settlement_contract_has_it_and_no_earlier() -> None:
    world = new_world()
    order_id, _ = cartel(world)
    half = 2 * LOCK
    before = earned(world, GOOD)
    settle(world)
    assert world.order(order_id).void_reason is VoidReason.NO_QUORUM
    slashes = told(world).slashes
    assert {each.to for each in slashes} == {world.genesis.settlement_contract} and len(slashes) == 4
    assert earned(world, GOOD) == before and world.ledger.due_ms() is None, "the chain has not moved it yet"
    world.chain(funded(LOCK))
    assert earned(world, GOOD) == before + LOCK and due(world) == {GOOD.address: half - LOCK}
    world.chain(funded(LOCK), funded(2 * LOCK))
    assert earned(world, GOOD) == before + half and due(world) == {}
    treasury = world.ledger.book.account(world.parameters.treasury).earned_grains
    settle(world)
    state = world.ledger.state
    assert state.confirmed.rewards[GOOD.address] == before + half
    assert state.confirmed.total_grains == state.earned_grains
    assert state.confirmed.rewards[world.parameters.treasury] == treasury + half, "the rest, after all others"
    assert world.ledger.due_ms() is None and state.recovered_grains == state.treasury_due_grains == 0
    assert state_in(world.ledger.snapshot()).passed_on_grains == 4 * LOCK
    assert world.replayed().state.digest == state.digest


def test_a_grain_at_a_time_makes_nobody_settle() -> None:
    world = new_world()
    cartel(world)
    settle(world)
    for _ in range(3):
        world.chain(funded(1))
    assert earned(world, GOOD) > 0 and world.ledger.due_ms() is None
    world.chain(funded(WORTH_AN_EPOCH_GRAINS))
    assert world.ledger.due_ms() is not None


def test_a_donation_is_no_stake_and_pays_nothing_that_is_not_due() -> None:
    world = new_world()
    world.chain(funded(1_000 * POT))
    state = world.ledger.state
    assert (state.recovered_grains, state.passed_on_grains, state.earned_grains) == (0, 0, 0)
    assert world.ledger.due_ms() is None


def test_why_says_what_came_of_slashed_stakes() -> None:
    world = new_world()
    order_id, _ = cartel(world)
    raw = query(world.ledger, "why", encode(views.WhyQuery(order_id, GOOD.address)))
    lines = decode(raw, views.WhyView, limit_bytes=1 << 20).lines
    assert [(line.text, line.grains) for line in lines if "slashed" in line.text] == [
        ("gets 5 POT of slashed stake: wrong score", 5 * POT)
    ]


PEOPLE = [bytes([number]) * 20 for number in range(1, 6)]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**18),
            st.integers(0, 10_000),
            st.dictionaries(st.sampled_from(PEOPLE), st.integers(0, 9), max_size=5),
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 10**18), max_size=8),
)
def test_nobody_gets_more_than_is_due_and_nothing_is_lost(
    slashes: list[tuple[int, int, dict[bytes, int]]], came: list[int]
) -> None:
    world = World()
    state = LedgerState(genesis=world.genesis, parameters=world.parameters)
    owed = Counter[bytes]()
    for taken, part, to in slashes:
        owed.update(dues.owe(state, taken, taken * part // 10_000, to))
    taken = sum(each for each, _, _ in slashes)
    assert sum(owed.values()) + state.treasury_due_grains == taken
    got = Counter[bytes]()
    left = taken
    for grains in came:
        grains = min(grains, left)
        left -= grains
        paid = dues.recover(state, grains)
        got.update(paid)
        state.recovered_grains -= sum(paid.values())
        state.passed_on_grains = Wide(state.passed_on_grains + sum(paid.values()))
    assert all(got[each] <= owed[each] for each in owed) and got.keys() <= owed.keys()
    assert {each: owed[each] - got[each] for each in owed if owed[each] > got[each]} == state.dues
    assert 0 <= dues.treasury_part(state) <= state.treasury_due_grains
    if not left:
        assert not state.dues and dues.treasury_part(state) == state.treasury_due_grains
