"""What f+1 aggregators say about the chain counts, once and in order; what fewer say does nothing at all."""

from __future__ import annotations

import itertools

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import Wide, encode
from pot_lab.protocol.book import MAX_INSIDE_GRAINS
from pot_lab.protocol.chain_events import MAX_AHEAD, MAX_LARGE_AHEAD
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Attest, Put, Withdraw
from tests.protocol.scenes import PROVIDERS, bring_to, finish, new_world
from tests.protocol.world import POT, World, key

ALICE = key("alice")


def staked(grains: int = 10 * POT, role: int = 0, who=ALICE) -> ChainEvent:
    return ChainEvent(
        kind="staked",
        block=1,
        log_index=0,
        account=who.address,
        role=role,
        amount_grains=grains,
        subject=b"",
        detail=(grains,),
    )


def bonded(world: World, role: Role = Role.PROVIDER, who=ALICE) -> int:
    return world.ledger.book.stake(who.address, role).bonded


@pytest.mark.parametrize("aggregators", [1, 3, 4, 6, 7, 10])
def test_f_attestations_do_nothing_and_one_more_does(aggregators: int) -> None:
    world = World(aggregators)
    faulty = world.ledger.book.faulty
    for aggregator in world.aggregators[:faulty]:
        world.must(aggregator, Attest(0, (staked(),)))
    assert bonded(world) == 0 and world.ledger.state.next_chain_event == 0
    world.must(world.aggregators[faulty], Attest(0, (staked(),)))
    assert bonded(world) == 10 * POT and world.ledger.state.next_chain_event == 1
    for aggregator in world.aggregators[faulty + 1 :]:
        world.must(aggregator, Attest(0, (staked(),)))
    assert bonded(world) == 10 * POT, "late attestations of an applied event change nothing"
    assert not world.ledger.state.attestations


def test_one_aggregator_counts_once_however_often_it_speaks() -> None:
    world = World()
    for _ in range(5):
        world.must(world.aggregators[0], Attest(0, (staked(),)))
    assert bonded(world) == 0


def test_an_aggregator_that_says_two_things_is_held_to_the_first() -> None:
    world = World()
    world.must(world.aggregators[0], Attest(0, (staked(10 * POT),)))
    world.must(world.aggregators[0], Attest(0, (staked(90 * POT),)))
    world.must(world.aggregators[1], Attest(0, (staked(90 * POT),)))
    assert bonded(world) == 0
    world.must(world.aggregators[2], Attest(0, (staked(10 * POT),)))
    assert bonded(world) == 10 * POT


def test_events_are_applied_in_the_chains_order_whatever_the_order_of_attestations() -> None:
    events = (
        staked(10 * POT),
        ChainEvent(
            kind="unstake_requested",
            block=2,
            log_index=0,
            account=ALICE.address,
            role=0,
            amount_grains=10 * POT,
            subject=b"",
            detail=(0, 9),
        ),
        ChainEvent(
            kind="withdrawn",
            block=3,
            log_index=0,
            account=ALICE.address,
            role=0,
            amount_grains=10 * POT,
            subject=b"",
            detail=(),
        ),
    )
    for order in itertools.permutations(range(3)):
        world = World()
        for number in order:
            for aggregator in world.aggregators[:2]:
                world.must(aggregator, Attest(number, (events[number],)))
        state = world.ledger.state
        assert (state.deposited_grains, state.withdrawn_grains, state.staked_grains) == (10 * POT, 10 * POT, 0)
        assert state.next_chain_event == 3


def test_a_gap_holds_back_what_comes_after_it() -> None:
    world = World()
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, Attest(1, (staked(5 * POT), staked(6 * POT))))
    assert bonded(world) == 0 and len(world.ledger.state.attestations) == 2
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, Attest(0, (staked(4 * POT),)))
    assert bonded(world) == 15 * POT and not world.ledger.state.attestations


def test_overlapping_attestations_are_one_history() -> None:
    world = World()
    a, b, c = staked(4 * POT), staked(5 * POT), staked(6 * POT)
    world.must(world.aggregators[0], Attest(0, (a, b)))
    world.must(world.aggregators[1], Attest(1, (b, c)))
    world.must(world.aggregators[2], Attest(0, (a,)))
    assert bonded(world) == 9 * POT
    world.must(world.aggregators[3], Attest(0, (a, b, c)))
    assert bonded(world) == 15 * POT


def test_what_lies_too_far_ahead_is_refused_so_that_memory_is_bounded() -> None:
    world = World()
    liar = world.aggregators[3]
    assert world.submit(liar, Attest(MAX_AHEAD, (staked(),))).code == "TooEarly"
    assert world.submit(liar, Attest(1 << 63, (staked(),))).code == "TooEarly"
    assert world.submit(liar, Attest(-1, (staked(),))).code == "TooEarly"
    world.must(liar, Attest(MAX_AHEAD - 1, (staked(),)))
    assert len(world.ledger.state.attestations) == 1


def test_events_that_hold_many_keys_are_attested_only_shortly_before_their_turn() -> None:
    world = World()
    keys = ChainEvent(
        kind="signers_rotated",
        block=1,
        log_index=0,
        account=bytes(20),
        role=-1,
        amount_grains=0,
        subject=bytes(2_000),
        detail=(1, 67),
    )
    assert world.submit(world.aggregators[0], Attest(MAX_LARGE_AHEAD, (keys,))).code == "TooEarly"
    world.must(world.aggregators[0], Attest(MAX_LARGE_AHEAD - 1, (keys,)))
    for size in (0, 19, 2_020):
        bad = ChainEvent(
            kind="signers_rotated",
            block=1,
            log_index=0,
            account=bytes(20),
            role=-1,
            amount_grains=0,
            subject=bytes(size),
            detail=(1, 67),
        )
        assert world.submit(world.aggregators[0], Attest(0, (bad,))).code == "Malformed"


def test_a_stranger_attests_nothing() -> None:
    world = World()
    assert world.submit(ALICE, Attest(0, (staked(),))).code == "NotAllowed"


ORDER_ID = b"\x01" * 32
SHAPES = {
    "staked": staked(),
    "unstake_requested": ChainEvent(
        kind="unstake_requested",
        block=1,
        log_index=0,
        account=ALICE.address,
        role=0,
        amount_grains=1,
        subject=b"",
        detail=(0, 9),
    ),
    "withdrawn": ChainEvent(
        kind="withdrawn", block=1, log_index=0, account=ALICE.address, role=0, amount_grains=1, subject=b"", detail=()
    ),
    "slashed": ChainEvent(
        kind="slashed", block=1, log_index=0, account=ALICE.address, role=0, amount_grains=1, subject=b"", detail=(0,)
    ),
    "signing_key_set": ChainEvent(
        kind="signing_key_set",
        block=1,
        log_index=0,
        account=ALICE.address,
        role=-1,
        amount_grains=0,
        subject=b"\x02" * 20,
        detail=(),
    ),
    "order_placed": ChainEvent(
        kind="order_placed",
        block=1,
        log_index=0,
        account=ALICE.address,
        role=-1,
        amount_grains=5,
        subject=ORDER_ID,
        detail=(1, 1, 9, 2**64 - 1),
    ),
    "order_refunded": ChainEvent(
        kind="order_refunded",
        block=1,
        log_index=0,
        account=ALICE.address,
        role=-1,
        amount_grains=5,
        subject=ORDER_ID,
        detail=(),
    ),
    "settled": ChainEvent(
        kind="settled",
        block=1,
        log_index=0,
        account=bytes(20),
        role=-1,
        amount_grains=5,
        subject=ORDER_ID,
        detail=(1, 1, 1),
    ),
    "signers_rotated": ChainEvent(
        kind="signers_rotated",
        block=1,
        log_index=0,
        account=bytes(20),
        role=-1,
        amount_grains=0,
        subject=bytes(60),
        detail=(1, 3),
    ),
    "funded": ChainEvent(
        kind="funded", block=1, log_index=0, account=ALICE.address, role=-1, amount_grains=5, subject=b"", detail=()
    ),
}
CHANGES = [
    {"kind": "minted"}, {"kind": ""}, {"role": 99}, {"role": 4}, {"role": -2}, {"account": b""},
    {"account": b"\1" * 21}, {"subject": b"\1" * 31}, {"subject": b"\1" * 60_000}, {"detail": (1,) * 9},
    {"detail": (-1, -1, -1, -1)}, {"amount_grains": -1}, {"block": -1}, {"log_index": -1},
]  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_every_event_that_the_contracts_emit_has_a_shape(kind: str) -> None:
    world = World()
    world.chain(SHAPES[kind])
    assert world.ledger.state.next_chain_event == 1


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("kind", SHAPES)
def test_an_event_that_no_contract_emits_is_refused_even_from_all(kind: str, change: dict[str, object]) -> None:
    event = structs.replace(SHAPES[kind], **change)
    world = World()
    for aggregator in world.aggregators:
        assert world.submit(aggregator, Attest(0, (event,))).code == "Malformed"
    assert not world.ledger.state.attestations and world.ledger.state.next_chain_event == 0


@pytest.mark.parametrize("kind", SHAPES)
def test_an_event_without_its_integers_is_refused(kind: str) -> None:
    if SHAPES[kind].detail:
        world = World()
        assert (
            world.submit(world.aggregators[0], Attest(0, (structs.replace(SHAPES[kind], detail=()),))).code
            == "Malformed"
        )


def test_one_bad_event_refuses_the_whole_attestation() -> None:
    world = World()
    for aggregator in world.aggregators:
        assert world.submit(aggregator, Attest(0, (staked(), staked(role=7)))).code == "Malformed"
    assert bonded(world) == 0


def test_more_than_the_ledger_can_count_stays_with_the_contracts() -> None:
    world = World()
    world.chain(staked(1 << 62), staked((1 << 62) + 1, who=key("bob")), staked(1 << 62, who=key("carol")))
    assert [bonded(world, who=who) for who in (ALICE, key("bob"), key("carol"))] == [1 << 62, 0, 1 << 62]
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(order)
    assert world.order(order.id).window == Window.WAITING
    assert encode(world.ledger.state) and world.replayed().snapshot() == world.ledger.snapshot()


# --- stakes --------------------------------------------------------------------------------------------------------
def test_unbonding_stake_is_no_longer_free_but_can_still_be_slashed() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    assert world.claim(order_id, PROVIDERS[0], "model 0").accepted
    address = PROVIDERS[0].address
    world.chain(
        ChainEvent(
            kind="unstake_requested",
            block=3,
            log_index=0,
            account=address,
            role=0,
            amount_grains=200 * POT,
            subject=b"",
            detail=(0, 99),
        )
    )
    book = world.ledger.book
    assert book.free(address, Role.PROVIDER) == 0 and not book.state.accounts[address].active[Role.PROVIDER]
    world.wait_for(order_id, Window.VOID)
    stake = book.stake(address, Role.PROVIDER)
    assert (stake.bonded, stake.unbonding, stake.locked, stake.slashed) == (0, 199 * POT, 0, POT)
    world.chain(
        ChainEvent(
            kind="withdrawn",
            block=4,
            log_index=0,
            account=address,
            role=0,
            amount_grains=200 * POT,
            subject=b"",
            detail=(),
        )
    )
    assert stake.unbonding == 0, "what the chain pays beyond what the ledger holds is no one else's"


def test_stake_that_the_chain_releases_is_counted_as_withdrawn() -> None:
    world = World()
    world.chain(
        staked(30 * POT),
        ChainEvent(
            kind="unstake_requested",
            block=2,
            log_index=0,
            account=ALICE.address,
            role=0,
            amount_grains=10 * POT,
            subject=b"",
            detail=(20 * POT, 9),
        ),
        ChainEvent(
            kind="withdrawn",
            block=3,
            log_index=0,
            account=ALICE.address,
            role=0,
            amount_grains=10 * POT,
            subject=b"",
            detail=(),
        ),
    )
    state = world.ledger.state
    assert (bonded(world), state.withdrawn_grains, state.staked_grains) == (20 * POT, 10 * POT, 20 * POT)


# --- escrows -------------------------------------------------------------------------------------------------------
def test_an_escrow_that_differs_from_its_order_ends_it_and_goes_back() -> None:
    world = World()
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(structs.replace(order, fee_grains=2 * POT))
    assert world.ledger.state.escrows, "it is another order's id"
    detail = (order.fee_grains + 1, order.bond_grains, order.seal_by_s, order.nonce)
    world.chain(
        ChainEvent(
            kind="order_placed",
            block=2,
            log_index=0,
            account=order.client,
            role=-1,
            amount_grains=order.reward_grains,
            subject=order.id,
            detail=detail,
        )
    )
    assert world.order(order.id).void_reason == VoidReason.WRONG_ESCROW
    assert world.ledger.state.accounts[order.client].earned_grains == 28 * POT + 1


@pytest.mark.parametrize("how", ["expired", "withdrawn"])
def test_an_escrow_that_comes_after_the_end_goes_back_with_the_next_epoch(how: str) -> None:
    world = World()
    order = world.new_order()
    world.must(world.client, Put(order))
    if how == "expired":
        world.wait(world.parameters.pool_ms)
    else:
        world.must(world.client, Withdraw(order.id))
    world.escrow(order)
    assert world.ledger.state.unsettled == [order.id]
    assert world.ledger.state.accounts[order.client].earned_grains == 28 * POT
    finish(world)
    assert world.order(order.id).epoch == 1 and not world.ledger.state.escrows


def test_an_escrow_that_comes_after_its_order_was_forgotten_waits_for_it() -> None:
    world = new_world()
    order = world.new_order()
    world.must(world.client, Put(order))
    world.must(world.client, Withdraw(order.id))
    world.wait(world.parameters.pool_ms)
    assert order.id not in world.ledger.state.orders
    world.escrow(order)
    world.must(world.client, Put(order))
    assert world.order(order.id).window == Window.COMMIT


@pytest.mark.parametrize("window", [Window.COMMIT, Window.REVEAL, Window.RELEASE, Window.SCORE, Window.OPEN_SCORES,
                                    Window.CHALLENGE, Window.FINALIZATION])  # fmt: skip
def test_a_refund_ends_the_order_in_any_window_and_frees_every_stake(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=0,
            account=world.client.address,
            role=-1,
            amount_grains=28 * POT,
            subject=order_id,
            detail=(),
        )
    )
    order, state = world.order(order_id), world.ledger.state
    assert (order.window, order.void_reason, order.payouts) == (Window.VOID, VoidReason.REFUNDED, [])
    assert all(stake.locked == 0 for account in state.accounts.values() for stake in account.stakes)
    assert (state.earned_grains, state.escrowed_grains, state.withdrawn_grains) == (0, 0, 28 * POT)
    assert not state.unsettled and world.ledger.due_ms() is None
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=1,
            account=world.client.address,
            role=-1,
            amount_grains=28 * POT,
            subject=order_id,
            detail=(),
        )
    )
    assert state.withdrawn_grains == 28 * POT


def test_a_refund_of_money_without_an_order_gives_it_back() -> None:
    world = World()
    order = world.new_order()
    world.escrow(order)
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=0,
            account=order.client,
            role=-1,
            amount_grains=28 * POT,
            subject=order.id,
            detail=(),
        )
    )
    assert world.ledger.state.withdrawn_grains == 28 * POT and not world.ledger.state.escrows


def test_a_refund_after_settlement_is_not_believed_twice() -> None:
    world = new_world()
    order_id = bring_to(world, Window.SETTLED)
    earned = world.ledger.state.earned_grains
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=0,
            account=world.client.address,
            role=-1,
            amount_grains=28 * POT,
            subject=order_id,
            detail=(),
        )
    )
    assert world.order(order_id).window == Window.SETTLED and world.ledger.state.earned_grains == earned


def fill(world: World) -> None:
    """Let somebody's stake leave room for 15 grains."""
    state, grains = world.ledger.state, MAX_INSIDE_GRAINS - 15
    world.ledger.book.account(key("bank").address).stakes[Role.PROVIDER].bonded = grains
    state.deposited_grains, state.staked_grains = Wide(grains), grains


@pytest.mark.parametrize(("over", "counted"), [(0, True), (1, False)])
@pytest.mark.parametrize("part", ["reward", "fee", "bond"])
def test_an_escrow_counts_while_all_its_parts_together_can_be_counted(part: str, over: int, counted: bool) -> None:
    world = World()
    amounts = {"reward": 3, "fee": 5, "bond": 7}
    amounts[part] += over
    state = world.ledger.state
    fill(world)
    order_id = bytes([9]) * 32
    placed = ChainEvent(
        kind="order_placed",
        block=1,
        log_index=0,
        account=ALICE.address,
        role=-1,
        amount_grains=amounts["reward"],
        subject=order_id,
        detail=(amounts["fee"], amounts["bond"], 1, 1),
    )
    world.chain(placed)
    assert (order_id in state.escrows) is counted
    assert state.deposited_grains == MAX_INSIDE_GRAINS - (0 if counted else 15)


@pytest.mark.parametrize(("over", "counted"), [(0, True), (1, False)])
def test_a_stake_counts_while_it_can_be_counted(over: int, counted: bool) -> None:
    world = World()
    fill(world)
    world.chain(
        ChainEvent(
            kind="staked",
            block=1,
            log_index=0,
            account=ALICE.address,
            role=0,
            amount_grains=15 + over,
            subject=b"",
            detail=(15 + over,),
        )
    )
    assert world.ledger.book.stake(ALICE.address, Role.PROVIDER).bonded == (15 if counted else 0)
