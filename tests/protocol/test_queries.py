"""Queries and views: equal bytes from equal histories, bounded answers, and proofs that the contract would take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import decode, encode, sha256
from pot_lab.crypto.identity import Identity
from pot_lab.errors import Malformed, Oversize
from pot_lab.protocol import epochs, queries, views
from pot_lab.protocol.contact import Contact
from pot_lab.protocol.cycle import TABLE, Phase, Window
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.settlement import PayoutTree, reward_leaf, slash_leaf, verify_proof
from pot_lab.protocol.state import (
    Candidate,
    Confirmed,
    GenesisAggregator,
    Member,
    OrderHeader,
    OrderState,
    PendingRotation,
    Reputation,
    Stake,
)
from pot_lab.protocol.transactions import Put
from tests.protocol.scenes import LEAF, MODELS, PROVIDERS, RESTING, VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import POT, WINDOWS, World, key, link

LIMIT = 64 << 20


def ask(ledger: Ledger, name: str, query: object, type_: type) -> object:
    return decode(queries.query(ledger, name, b"" if query is None else encode(query)), type_, limit_bytes=LIMIT)


def every_query(world: World, order_id: bytes) -> Iterator[tuple[str, bytes]]:
    yield "network", b""
    yield "epoch", b""
    yield "seats", b""
    for limit in (-1, 0, 1, 100, 1 << 62):
        yield "orders", encode(views.OrdersQuery(limit))
        yield "orders", encode(views.OrdersQuery(limit, world.client.address))
        yield "fetch_orders", encode(views.OrdersQuery(limit))
        yield "orders_in", encode(views.WindowsQuery(windows=tuple(Window), limit=limit))
    yield "orders_in", encode(views.WindowsQuery(windows=(Window.SCORE,), assigned=VALIDATORS[0].address))
    yield "order", encode(views.OrderQuery(order_id))
    yield "header", encode(views.OrderQuery(order_id))
    for who in (world.client, *PROVIDERS, *VALIDATORS, key("stranger"), key("treasury"), *world.aggregators):
        yield "account", encode(views.AccountQuery(who.address))


@pytest.mark.parametrize("window", RESTING)
def test_two_ledgers_with_the_same_batches_answer_in_equal_bytes(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    other, restored = world.replayed(), Ledger(world.genesis)
    restored.restore(world.ledger.snapshot())
    for name, arguments in every_query(world, order_id):
        answer = queries.query(world.ledger, name, arguments)
        assert answer == queries.query(other, name, arguments) == queries.query(restored, name, arguments)


@pytest.mark.parametrize("window", RESTING)
def test_an_order_shows_everything_public_and_nothing_early(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    view = ask(world.ledger, "order", views.OrderQuery(order_id), views.OrderView)
    assert isinstance(view, views.OrderView)
    assert repr(view).startswith(f"OrderView(0x{order_id.hex()[:12]}..., ") and len(repr(view)) < 200
    assert (view.window, view.phase, view.ended) == (window, TABLE[window].phase, TABLE[window].phase is Phase.ENDED)
    assert [claim.place for claim in view.claims] == sorted(claim.place for claim in view.claims)
    assert bool(view.test_key) == (
        Window(window) not in (Window.WAITING, Window.COMMIT, Window.REVEAL, Window.RELEASE, Window.VOID)
    )
    if window is Window.COMMIT:
        assert all(not claim.mid and claim.ciphertext is None and not claim.key for claim in view.claims)
    if window is Window.SCORE:
        assert view.validations and all(v.score is None and not v.transcript_root for v in view.validations)
    provider = PROVIDERS[1].address
    assert (view.claim_by(provider) is not None) == bool(view.claims) and view.claim_by(b"") is None


def test_orders_are_fetched_by_reward_per_training_time_without_division() -> None:
    world = World()
    offers = [(10 * POT, 10_000), (10 * POT + 1, 10_000), (30 * POT, 30_001), (5 * POT, 4_999), (10 * POT, 10_000)]
    for nonce, (reward, train_ms) in enumerate(offers, 1):
        world.start(nonce=nonce, reward_grains=reward, windows=structs.replace(WINDOWS, train_ms=train_ms))
    found = ask(world.ledger, "fetch_orders", views.OrdersQuery(10), list[views.OrderView])
    assert isinstance(found, list)
    ranked = [(view.order.reward_grains, view.order.windows.train_ms) for view in found]
    assert ranked[:2] == [(5 * POT, 4_999), (10 * POT + 1, 10_000)] and ranked[4] == (30 * POT, 30_001)
    assert found[2].id < found[3].id, "equal offers in the order of their ids"
    fewer = ask(world.ledger, "fetch_orders", views.OrdersQuery(2), list[views.OrderView])
    assert fewer == found[:2]


def test_only_orders_that_can_still_be_claimed_are_fetched() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    bring_to(world, Window.WAITING)
    assert [v.id for v in ask(world.ledger, "fetch_orders", views.OrdersQuery(10), list[views.OrderView])] == [order_id]
    world.wait_for(order_id, Window.REVEAL)
    assert ask(world.ledger, "fetch_orders", views.OrdersQuery(10), list[views.OrderView]) == []


def test_claims_push_no_order_off_the_list() -> None:
    """Claims are others', and 256 of them are larger than everything else in an order."""
    world = new_world()
    full, _ = world.start(nonce=1, reward_grains=50 * POT)
    other, _ = world.start(nonce=2)
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.claim(full, provider, model).accepted
    found = ask(world.ledger, "fetch_orders", views.OrdersQuery(10), list[views.OrderView])
    assert isinstance(found, list) and [view.id for view in found] == [full, other]
    whole = ask(world.ledger, "order", views.OrderQuery(full), views.OrderView)
    assert isinstance(whole, views.OrderView) and len(whole.claims) == 2
    assert found[0] == structs.replace(whole, claims=()) and found[0].next_bond_grains == whole.next_bond_grains


def test_a_list_of_orders_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for nonce in range(1, 6):
        world.start(nonce=nonce)
    whole = ask(world.ledger, "fetch_orders", views.OrdersQuery(10), list[views.OrderView])
    assert isinstance(whole, list) and len(whole) == 5
    monkeypatch.setattr(queries, "ANSWER_BYTES", 2 * len(encode(whole[0])) + 100)
    assert ask(world.ledger, "fetch_orders", views.OrdersQuery(10), list[views.OrderView]) == whole[:2]
    monkeypatch.setattr(queries, "ANSWER_BYTES", 1)
    assert len(ask(world.ledger, "fetch_orders", views.OrdersQuery(10), list[views.OrderView])) == 1


def test_lists_are_newest_first_and_can_be_one_clients() -> None:
    world = World()
    ids = []
    for nonce in range(1, 4):
        world.now_ms += 1
        ids.append(world.start(nonce=nonce)[0])
    found = ask(world.ledger, "orders", views.OrdersQuery(2), list[views.OrderSummary])
    assert [summary.id for summary in found] == [ids[2], ids[1]]
    assert ask(world.ledger, "orders", views.OrdersQuery(9, key("other").address), list[views.OrderSummary]) == []
    mine = ask(world.ledger, "orders", views.OrdersQuery(9, world.client.address), list[views.OrderSummary])
    assert [summary.id for summary in mine] == ids[::-1]


def slash_next(world: World) -> None:
    """An order in which the first provider reveals nothing, up to its settlement."""
    order_id = bring_to(world, Window.REVEAL)
    world.wait_for(order_id, Window.RELEASE)
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            act(order_id, validator, {MODELS[1]: 90})
    world.wait_for(order_id, Window.FINALIZATION)
    finish(world)


def test_every_reward_and_slash_comes_with_a_proof_that_leads_to_the_confirmed_root() -> None:
    world = new_world()
    slash_next(world)
    root = world.ledger.state.confirmed.root
    for address, account in world.ledger.state.accounts.items():
        view = ask(world.ledger, "account", views.AccountQuery(address), views.AccountView)
        assert isinstance(view, views.AccountView)
        assert view.claimable_cumulative_grains == account.earned_grains
        if view.claimable_cumulative_grains:
            leaf = reward_leaf(address, view.claimable_cumulative_grains)
            assert verify_proof(root, leaf, list(view.claim_proof))
        else:
            assert view.claim_proof == ()
    epoch = ask(world.ledger, "epoch", None, views.EpochView)
    assert isinstance(epoch, views.EpochView)
    assert [(s.node, s.role, s.cumulative_grains) for s in epoch.slashes] == [(PROVIDERS[0].address, 0, POT)]
    for slash in epoch.slashes:
        leaf = slash_leaf(slash.node, slash.role, slash.cumulative_grains, slash.to)
        assert verify_proof(root, leaf, list(slash.proof))


def test_slashes_are_proved_once_for_each_settlement_however_often_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slashes stay, so that proving each of thousands for whoever asks would cost a second a question."""
    world, proofs = new_world(), list[bytes]()
    prove = PayoutTree.proof
    monkeypatch.setattr(PayoutTree, "proof", lambda self, leaf: (proofs.append(leaf), prove(self, leaf))[1])
    for settlements in (1, 2):
        slash_next(world)
        views_ = [ask(world.ledger, "epoch", None, views.EpochView) for _ in range(3)]
        assert len(proofs) == settlements and views_[0] == views_[1] == views_[2]
        assert isinstance(views_[0], views.EpochView)
        assert [each.cumulative_grains for each in views_[0].slashes] == [settlements * POT]
        leaf = slash_leaf(PROVIDERS[0].address, 0, settlements * POT, views_[0].slashes[0].to)
        assert verify_proof(world.ledger.state.confirmed.root, leaf, list(views_[0].slashes[0].proof))


def test_the_tree_of_a_settlement_is_made_when_it_is_proposed_and_not_for_whoever_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With ten thousand accounts it takes half a second."""
    world, made = new_world(), list[PayoutTree]()
    make = epochs.payout_tree
    monkeypatch.setattr(epochs, "payout_tree", lambda *of: (made.append(make(*of)), made[-1])[1])
    for settlements in (1, 2):
        slash_next(world)
        assert len(made) == settlements
        for _ in range(2):
            ask(world.ledger, "account", views.AccountQuery(PROVIDERS[1].address), views.AccountView)
            ask(world.ledger, "epoch", None, views.EpochView)
        assert len(made) == settlements
    assert made[-1].root == world.ledger.state.confirmed.root
    restored = Ledger(world.genesis)
    restored.restore(world.ledger.snapshot())
    for query_, arguments in (("account", encode(views.AccountQuery(PROVIDERS[1].address))), ("epoch", b"")):
        assert queries.query(restored, query_, arguments) == queries.query(world.ledger, query_, arguments)
    assert len(made) == 3, "a restored ledger makes it once"


def test_proofs_follow_the_newest_confirmation() -> None:
    world = new_world()
    for _ in range(2):
        bring_to(world, Window.SETTLED)
        view = ask(world.ledger, "account", views.AccountQuery(PROVIDERS[1].address), views.AccountView)
        assert isinstance(view, views.AccountView)
        leaf = reward_leaf(PROVIDERS[1].address, view.claimable_cumulative_grains)
        assert verify_proof(world.ledger.state.confirmed.root, leaf, list(view.claim_proof))
    assert view.claimable_cumulative_grains == 40 * POT and view.wins == 2


def test_the_pending_epoch_shows_its_signers_in_one_order() -> None:
    world = new_world()
    bring_to(world, Window.FINALIZATION)
    world.wait(world.parameters.update_ms)
    world.sign_epoch()
    epoch = ask(world.ledger, "epoch", None, views.EpochView)
    assert isinstance(epoch, views.EpochView) and epoch.settlement is not None
    assert list(epoch.signers) == sorted(epoch.signers) and len(epoch.signers) == epoch.quorum == 3
    assert len(epoch.signatures) == 3


def test_the_network_counts_who_is_registered() -> None:
    world = new_world()
    bring_to(world, Window.COMMIT)
    view = ask(world.ledger, "network", None, views.NetworkView)
    assert isinstance(view, views.NetworkView)
    assert (view.providers, view.validators, view.verifiers, view.orders_live) == (2, 4, 0, 1)
    assert view.deposited_grains == 6 * 200 * POT + 28 * POT and view.genesis == world.genesis


def test_an_unknown_account_is_empty_and_an_unknown_order_is_refused() -> None:
    world = World()
    view = ask(world.ledger, "account", views.AccountQuery(key("nobody").address), views.AccountView)
    assert isinstance(view, views.AccountView)
    assert (view.nonce, view.stakes, view.earned_grains) == (0, (), 0)
    assert key("nobody").address not in world.ledger.state.accounts
    with pytest.raises(UnknownOrder):
        queries.query(world.ledger, "order", encode(views.OrderQuery(b"\x01" * 32)))
    assert ask(world.ledger, "header", views.OrderQuery(b"\x01" * 32), OrderHeader | None) is None
    member = ask(world.ledger, "account", views.AccountQuery(world.aggregators[0].address), views.AccountView)
    assert isinstance(member, views.AccountView) and member.stakes[Role.AGGREGATOR].active


@pytest.mark.parametrize("name", ["order", "orders", "fetch_orders", "account", "header"])
def test_bad_arguments_are_refused(name: str) -> None:
    world = World()
    for arguments, error in ((b"", Malformed), (b"\xc0", Malformed), (b"\x00" * 2_000, Oversize)):
        with pytest.raises(error):
            queries.query(world.ledger, name, arguments)
    with pytest.raises(views.UnknownQuery):
        queries.query(world.ledger, "_order", b"")


# --- every field, from the state's own -------------------------------------------------------------------------------
def same_fields(view: Any, state: Any, *, but: tuple[str, ...] = ()) -> None:
    """Every field of the view that the state has under the same name is equal to it, and all such values differ, so
    that two of them cannot be mistaken for each other.
    """
    names = [name for name in view.__struct_fields__ if hasattr(state, name) and name not in but]
    shown = [getattr(view, name) for name in names]
    assert shown == [getattr(state, name) for name in names]
    numbers = [value for value in shown if type(value) is int]
    assert len(set(numbers)) == len(numbers), f"not told apart: {names} {shown}"


def test_an_account_shows_each_of_its_figures_under_its_own_name() -> None:
    world = new_world()
    address = PROVIDERS[0].address
    account = world.ledger.state.accounts[address]
    account.reputation = Reputation(
        wins=31, claims=32, agreeing_validations=33, wrong_validations=34, forfeits=35, absences=36
    )
    for role in Role:
        base = 10 * (role + 1)
        account.stakes[role] = Stake(bonded=base + 4, unbonding=base + 3, locked=base + 2, slashed=base + 1)
        account.active[role] = role in (Role.PROVIDER, Role.VERIFIER)
    account.earned_grains = 90
    world.ledger.state.confirmed = Confirmed(
        epoch=7, root=b"\x01" * 32, total_grains=81, rewards={address: 81, b"\x05" * 20: 1}
    )
    view = ask(world.ledger, "account", views.AccountQuery(address), views.AccountView)
    assert isinstance(view, views.AccountView)
    same_fields(view, account, but=("stakes",))
    same_fields(view, account.reputation)
    assert (view.address, view.claimable_epoch, view.claimable_cumulative_grains) == (address, 7, 81)
    for role, stake in zip(Role, view.stakes, strict=True):
        assert stake == views.StakeView(
            role=role,
            active=role in (Role.PROVIDER, Role.VERIFIER),
            bonded_grains=10 * (role + 1) + 4,
            unbonding_grains=10 * (role + 1) + 3,
            locked_grains=10 * (role + 1) + 2,
            slashed_grains=10 * (role + 1) + 1,
        )


def distinct_times(order: OrderState) -> None:
    """Give every time and count of an order a value of its own."""
    order.put_ms, order.t0_ms, order.closes_ms, order.ended_ms, order.epoch = 101, 102, 103, 104, 105
    for number, claim in enumerate(sorted(order.claims.values(), key=lambda claim: claim.place)):
        claim.committed_ms, claim.revealed_ms = 210 + 10 * number, 211 + 10 * number
    for number, validation in enumerate(order.validations):
        validation.committed_ms, validation.opened_ms = 310 + 10 * number, 311 + 10 * number
    for number, span in enumerate(order.timeline):
        span.opened_ms, span.closed_ms = 410 + 10 * number, 411 + 10 * number


def test_an_order_shows_each_of_its_figures_under_its_own_name() -> None:
    world = new_world()
    order_id = bring_to(world, Window.FINALIZATION)
    order = world.order(order_id)
    distinct_times(order)
    view = ask(world.ledger, "order", views.OrderQuery(order_id), views.OrderView)
    assert isinstance(view, views.OrderView) and view.id == order_id and view.order == order.order
    nested = ("order", "timeline", "claims", "validations", "payouts", "void_reason", "challenges", "disputes")
    same_fields(view, order, but=nested)
    assert (view.void_reason, view.phase) == ("", Phase.FINALIZATION)
    for claim_view, claim in zip(view.claims, sorted(order.claims.values(), key=lambda c: c.place), strict=True):
        same_fields(claim_view, claim, but=("assigned", "seat_set"))
        assert list(claim_view.assigned) == order.seats[0]
    for shown, validation in zip(view.validations, order.validations, strict=True):
        same_fields(shown, validation)
    assert [(s.name, s.opened_ms, s.closed_ms) for s in view.timeline] == [
        (s.window, s.opened_ms, s.closed_ms) for s in order.timeline
    ]
    assert [(p.account, p.grains, p.reason) for p in view.payouts] == [
        (p.account, p.grains, p.reason) for p in order.payouts
    ]


def test_a_summary_shows_each_of_its_figures_under_its_own_name() -> None:
    world = new_world()
    order_id = bring_to(world, Window.FINALIZATION)
    order = world.order(order_id)
    distinct_times(order)
    (summary,) = ask(world.ledger, "orders", views.OrdersQuery(9), list[views.OrderSummary])
    same_fields(summary, order, but=("claims", "void_reason"))
    same_fields(summary, order.order)
    assert summary == views.OrderSummary(
        id=order_id,
        client=world.client.address,
        title="digits",
        window=Window.FINALIZATION,
        phase=Phase.FINALIZATION,
        t0_ms=102,
        closes_ms=103,
        reward_grains=25 * POT,
        train_ms=WINDOWS.train_ms,
        score_name="accuracy",
        claims=2,
        leader=PROVIDERS[1].address,
        leader_score=order.claims[PROVIDERS[1].address].agreed,
        void_reason="",
        ended_ms=104,
    )


def test_a_void_order_names_its_reason() -> None:
    world = new_world()
    order_id = bring_to(world, Window.VOID)
    view = ask(world.ledger, "order", views.OrderQuery(order_id), views.OrderView)
    (summary,) = ask(world.ledger, "orders", views.OrdersQuery(9), list[views.OrderSummary])
    assert isinstance(view, views.OrderView)
    assert view.void_reason == summary.void_reason == "no claims" and summary.leader_score is None
    assert "void_reason='no claims'" in repr(view)


def test_the_epoch_shows_each_of_its_figures_under_its_own_name() -> None:
    world = new_world()
    order_id = bring_to(world, Window.FINALIZATION)
    world.wait(world.parameters.update_ms)
    world.sign_epoch(2)
    pending, confirmed = world.ledger.state.pending, Confirmed(epoch=6, root=b"\x09" * 32, total_grains=77)
    assert pending is not None
    world.ledger.state.confirmed = confirmed
    view = ask(world.ledger, "epoch", None, views.EpochView)
    assert isinstance(view, views.EpochView)
    signers = sorted(each.address for each in world.aggregators[:2])
    assert view == views.EpochView(
        settlement=pending.settlement,
        order_ids=(order_id,),
        signers=tuple(signers),
        signatures=tuple(pending.signatures[signer] for signer in signers),
        quorum=3,
        confirmed_epoch=6,
        confirmed_root=b"\x09" * 32,
        confirmed_total_grains=77,
        slashes=(),
    )


def test_the_network_shows_each_of_its_figures_under_its_own_name() -> None:
    world = new_world()
    world.stake(key("verifier"), Role.VERIFIER)
    for _ in range(5):
        bring_to(world, Window.COMMIT)
    view = ask(world.ledger, "network", None, views.NetworkView)
    state = world.ledger.state
    assert isinstance(view, views.NetworkView)
    same_fields(view, state)
    assert (view.orders_live, view.providers, view.validators, view.verifiers) == (5, 2, 4, 1)
    assert [(each.address, each.sealing_public) for each in view.members] == [
        (each.account, each.sealing_public) for each in state.aggregators
    ]


def test_the_seats_show_each_figure_under_its_own_name() -> None:
    world = World()
    state = world.ledger.state
    where = Contact(host="127.0.0.1", peer_port=5, client_port=6, custody_port=7, curve_public="a" * 40)
    seat = GenesisAggregator(account=b"\x11" * 20, key=b"\x12" * 20, sealing_public=b"\x13" * 32, contact=encode(where))
    state.candidates[seat.account] = Candidate(seat, 0, [world.aggregators[0].address])
    state.removals[world.aggregators[1].address] = [world.aggregators[2].address]
    state.aggregators[3] = structs.replace(state.aggregators[3], key=b"\x14" * 20, contact=encode(where))
    state.rotation = PendingRotation(set_id=2, threshold=3, stakers=[b"\x15" * 20])
    state.signer_set_id = 9
    view = ask(world.ledger, "seats", None, views.SeatsView)
    assert isinstance(view, views.SeatsView)
    assert view.candidates == (
        views.CandidateView(account=seat.account, key=seat.key, contact=where, votes=(world.aggregators[0].address,)),
    )
    for shown, kept in zip(view.seats, state.aggregators, strict=True):
        assert shown == views.SeatView(
            account=kept.account,
            key=kept.key,
            sealing_public=kept.sealing_public,
            contact=where if kept.contact else None,
            convicted=False,
            against=tuple(state.removals.get(kept.account, ())),
        )
    assert (view.quorum, view.change_pending, view.signer_set_id) == (3, False, 9)
    assert list(view.signers) == state.signers and view.next_signers == (b"\x15" * 20,)
    for account in (b"\x99" * 20, b"\x01" * 20):  # they are listed by account, whoever applied first
        state.candidates[account] = Candidate(structs.replace(seat, account=account), 0, [])
    view = ask(world.ledger, "seats", None, views.SeatsView)
    assert isinstance(view, views.SeatsView)
    assert [each.account[0] for each in view.candidates] == [0x01, 0x11, 0x99]


def ids_in(world: World, **arguments: Any) -> list[bytes]:
    query = views.WindowsQuery(**arguments)
    found = ask(world.ledger, "orders_in", query, list[views.OrderSummary])
    assert isinstance(found, list)
    return [summary.id for summary in found]


@pytest.mark.parametrize("window", RESTING)
def test_an_order_is_listed_in_its_window_alone(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    for other in Window:
        assert (order_id in ids_in(world, windows=(other,))) == (other is window)
    assert ids_in(world, windows=(window, window)) == [order_id] and ids_in(world, windows=()) == []


def test_orders_in_a_window_are_listed_completely_by_pages() -> None:
    world = new_world()
    ids = sorted(world.start(nonce=number)[0] for number in range(50, 57))
    found: list[bytes] = []
    while page := ids_in(world, windows=(Window.COMMIT,), after=found[-1] if found else b"", limit=3):
        assert len(page) <= 3
        found += page
    assert found == ids


def test_whoever_was_drawn_finds_the_order_and_nobody_else() -> None:
    world = new_world()
    order_id = bring_to(world, Window.SCORE)
    drawn = set(world.order(order_id).seats[0])
    for who in (*VALIDATORS, *PROVIDERS, key("stranger")):
        listed = ids_in(world, windows=(Window.SCORE,), assigned=who.address)
        assert listed == ([order_id] if who.address in drawn else [])
    assert drawn


def test_lists_from_indices_are_those_of_a_walk_over_all_orders() -> None:
    """Also after orders have ended and were forgotten, and in a ledger that was restored."""
    world = World(parameters=Parameters(pool_ms=5_000))
    clients = [key(f"client {number}") for number in range(3)]
    for number in range(30):
        who = clients[number % 3]
        world.must(who, Put(world.new_order(client=who.address, nonce=1_000 + number)))
        if number % 4 == 0:
            world.wait(400)
        if number % 10 == 9:
            compare_with_a_walk(world.ledger, clients)
    restored = Ledger(world.genesis)
    restored.restore(world.ledger.snapshot())
    compare_with_a_walk(restored, clients)
    before = len(world.ledger.state.orders)
    for _ in range(40):
        world.wait(400)
        compare_with_a_walk(world.ledger, clients)
    assert len(world.ledger.state.orders) < before


def compare_with_a_walk(ledger: Ledger, clients: list[Identity]) -> None:
    orders = ledger.state.orders
    newest = sorted(orders, key=lambda each: (-orders[each].put_ms, each))
    for limit in (1, 7, 500):
        listed = ask(ledger, "orders", views.OrdersQuery(limit), tuple[views.OrderSummary, ...])
        assert [each.id for each in listed] == newest[:limit]  # type: ignore[attr-defined]
        for who in clients:
            listed = ask(ledger, "orders", views.OrdersQuery(limit, who.address), tuple[views.OrderSummary, ...])
            own = [each for each in newest if orders[each].order.client == who.address]
            assert [each.id for each in listed] == own[:limit]  # type: ignore[attr-defined]
    network = ask(ledger, "network", None, views.NetworkView)
    live = sum(TABLE[each.window].phase is not Phase.ENDED for each in orders.values())
    assert network.orders_live == live  # type: ignore[attr-defined]


def test_an_order_shows_its_challenges_and_disputes() -> None:
    world = new_world()
    order_id = bring_to(world, Window.JUDGE)
    view, order = ask(world.ledger, "order", views.OrderQuery(order_id), views.OrderView), world.order(order_id)
    (challenge,), (dispute,) = view.challenges, view.disputes
    assert (challenge.challenger, challenge.dispute) == (PROVIDERS[0].address, dispute.name)
    assert challenge.commitment == order.challenges[0].commitment
    assert (dispute.index, dispute.votes, dispute.right, dispute.opened_by_itself) == (LEAF, 1, None, False)
    kept = order.disputes[0]
    assert (dispute.mid, dispute.score, dispute.root) == (kept.mid, kept.score, kept.root)


def test_validations_can_be_fetched_alone() -> None:
    world = new_world()
    order_id = bring_to(world, Window.OPEN_SCORES)
    found = ask(world.ledger, "fetch_validations", views.OrderQuery(order_id), list[views.ValidationView])
    view = ask(world.ledger, "order", views.OrderQuery(order_id), views.OrderView)
    assert tuple(found) == view.validations and len(found) == 2 * len(VALIDATORS)


def test_the_holders_of_an_orders_keys_stay_though_the_aggregators_change() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    holders = ask(world.ledger, "holders", views.OrderQuery(order_id), list[Member])
    assert holders == list(world.genesis.members)
    left = world.ledger.state.aggregators.pop()
    assert left.account == holders[-1].address
    assert ask(world.ledger, "holders", views.OrderQuery(order_id), list[Member]) == holders


def test_a_models_key_is_shown_with_its_release_and_not_before() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id, count=3)
    keys = [claim.key for claim in ask(world.ledger, "order", views.OrderQuery(order_id), views.OrderView).claims]
    assert keys == [b"", b""]
    world.prove(order_id)
    view = ask(world.ledger, "order", views.OrderQuery(order_id), views.OrderView)
    assert {claim.key for claim in view.claims} == {sha256(model.encode()) for model in MODELS}
    assert {claim.ciphertext for claim in view.claims} == {link(model) for model in MODELS}
