"""Every window takes its own kinds of transactions until its last millisecond, and no other kind."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import encode
from pot_lab.protocol.cycle import PLACES, TABLE, Phase, VoidReason, Window, diagram, window_accepting
from pot_lab.protocol.ledger import HANDLERS, Ledger
from pot_lab.protocol.orders import windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import BODIES, Put, Unregister, open_transaction
from tests.protocol.scenes import MODELS, PROVIDERS, RESTING, SCORES, VALIDATORS, bring_to, finish, new_world, speech
from tests.protocol.test_chain_events import staked
from tests.protocol.world import PARAMETERS, POT, World, key

KINDS = sorted({kind for rule in TABLE.values() for kind in rule.accepts})
ACCEPTED = [
    (window, kind)
    for window, rule in TABLE.items()
    for kind in rule.accepts
    if kind != "verdict" or window is Window.JUDGE  # earlier ones are on disputes that opened by themselves
]
REFUSED = [(window, kind) for window in Window for kind in KINDS if kind not in TABLE[window].accepts]


@pytest.mark.parametrize(("window", "kind"), ACCEPTED)
def test_a_kind_is_accepted_until_the_last_millisecond_of_its_window(window: Window, kind: str) -> None:
    world = new_world()
    order_id = bring_to(world, window, claimed=False)
    world.now_ms = world.order(order_id).closes_ms - 1
    reply = world.submit(*speech(world, order_id, kind))
    assert reply.accepted, (reply.code, reply.message)


@pytest.mark.parametrize(("window", "kind"), ACCEPTED)
def test_a_kind_is_late_when_its_window_closes(window: Window, kind: str) -> None:
    world = new_world()
    # An order in which somebody has committed cannot be withdrawn anyway, so that one is left without claims.
    order_id = bring_to(world, window, claimed=kind != "withdraw")
    world.now_ms = world.order(order_id).closes_ms
    if window is Window.JUDGE:  # it opens once more for verdicts
        world.batch()
        world.now_ms = world.order(order_id).closes_ms
    reply = world.submit(*speech(world, order_id, kind))
    assert reply.code == "TooLate" and world.order(order_id).window != window


@pytest.mark.parametrize(("window", "kind"), REFUSED)
def test_any_other_window_is_too_early_or_too_late(window: Window, kind: str) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    reply = world.submit(*speech(world, order_id, kind))
    early = PLACES[window] < PLACES[window_accepting(kind)]
    assert reply.code == ("TooEarly" if early else "TooLate")
    assert window in reply.seen


@pytest.mark.parametrize("window", [w for w in RESTING if TABLE[w].duration and w is not Window.JUDGE])
def test_a_window_stays_open_as_long_as_the_order_asked_for(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    order = world.order(order_id)
    assert order.closes_ms - order.timeline[-1].opened_ms == getattr(order.order.windows, TABLE[window].duration or "")
    world.now_ms = order.closes_ms - 1
    world.batch()
    assert world.order(order_id).window == window
    assert world.ledger.due_ms() == order.closes_ms
    world.now_ms += 1
    world.batch()
    assert world.order(order_id).window != window


@pytest.mark.parametrize("window", [w for w in RESTING if TABLE[w].closes_early and w is not Window.WAITING])
def test_a_window_closes_early_when_the_last_has_acted(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    if window is Window.RELEASE:
        world.release(order_id)
    else:
        assert world.submit(*speech(world, order_id, TABLE[window].accepts[0])).accepted
    assert world.order(order_id).window == TABLE[window].next


@pytest.mark.parametrize("window", [Window.COMMIT, Window.CHALLENGE])
def test_a_window_in_which_anyone_may_still_come_never_closes_early(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    closes_ms = world.order(order_id).closes_ms
    if window is Window.COMMIT:
        assert world.claim(order_id, PROVIDERS[0], MODELS[0]).accepted
    world.now_ms = closes_ms - 1
    world.batch()
    assert world.order(order_id).window == window


def test_after_an_outage_everybody_still_gets_each_window_whole() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    world.now_ms += 10 * 86_400_000
    world.batch()
    order = world.order(order_id)
    assert order.window == Window.REVEAL
    assert order.closes_ms == world.now_ms + order.order.windows.reveal_ms


@pytest.mark.parametrize("window", RESTING)
def test_a_ledger_restarted_from_a_snapshot_goes_on_alike(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    other = Ledger(world.genesis)
    other.restore(world.ledger.snapshot())
    assert other.due_ms() == world.ledger.due_ms()
    done = len(world.log)
    if TABLE[window].accepts:
        assert world.submit(*speech(world, order_id, TABLE[window].accepts[0])).accepted or window is Window.COMMIT
    world.wait_for(order_id, Window.REVEAL) if window is Window.COMMIT else None
    finish(world)
    world.wait(world.parameters.retention_ms + 1)
    for time_ms, requests in world.log[done:]:
        other.execute(other.state.sequence + 1, time_ms, [open_transaction(r, world.network_id) for r in requests])
        assert other.book.index.unfunded == sum(
            order.window is Window.WAITING or (order.window is Window.VOID and not order.t0_ms)
            for order in other.state.orders.values()
        )
    assert other.snapshot() == world.ledger.snapshot()
    assert other.due_ms() == world.ledger.due_ms()


def extended(world: World) -> bytes:
    """An order whose seats only two accounts did not leave silent, in its second score window."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for validator in VALIDATORS[:2]:
        assert world.commit_scores(order_id, validator, SCORES).accepted
    world.wait(world.order(order_id).closes_ms - world.now_ms)
    order = world.order(order_id)
    assert (order.window, order.extended) == (Window.SCORE, True)
    return order_id


def test_silent_seats_go_to_others_once_and_their_accounts_pay() -> None:
    """Two accounts with most seats score, too few accounts; the other seats are drawn again."""
    world = new_world(structs.replace(PARAMETERS, seats_per_order=7))
    people = {each.address: each for each in [*VALIDATORS, *(key(f"validator {i}") for i in range(4, 30))]}
    for validator in list(people.values())[4:]:
        world.stake(validator, Role.VALIDATOR)
    for rich in VALIDATORS[:2]:
        world.chain(staked(20_000 * POT, 1, rich))
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    order = world.order(order_id)
    before = list(order.seats[0])
    present = {rich.address for rich in VALIDATORS[:2]}
    silent = set(before) - present
    assert silent and sum(seat in present for seat in before) > 3
    for account in sorted(present):
        assert world.commit_scores(order_id, people[account], SCORES).accepted
    world.wait(order.closes_ms - world.now_ms)
    after = order.seats[0]
    assert (order.window, order.extended, len(after)) == (Window.SCORE, True, 7)
    assert silent.isdisjoint(after) and {account for account, _ in order.silent} == silent
    assert all(new == old for new, old in zip(after, before, strict=True) if old in present and new in present)
    refused = world.commit_scores(order_id, people[next(iter(silent))], SCORES)
    assert (refused.code, "went to others" in refused.message) == ("NotAssigned", True)
    for account in sorted(set(after) - present):
        assert world.commit_scores(order_id, people[account], SCORES).accepted
    assert order.window is Window.OPEN_SCORES, "closed early: whoever lost its seats is not waited for"
    for account in sorted(set(after)):
        assert world.open_scores(order_id, people[account], SCORES).accepted
    assert order.window is Window.CHALLENGE
    book, lock = world.ledger.book, order.lock_grains
    for account in silent:
        owed = before.count(account) * world.parameters.absence_grains(25 * POT)
        assert book.stake(account, Role.VALIDATOR).slashed == min(owed, lock) > 0
    assert all(not book.stake(account, Role.VALIDATOR).slashed for account in after)
    assert all(book.stake(account, Role.VALIDATOR).locked == 0 for account in people), "nothing can cost them any more"


def test_where_nobody_scored_at_all_there_is_a_second_window() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    world.wait(world.order(order_id).closes_ms - world.now_ms)
    order = world.order(order_id)
    assert (order.window, order.extended) == (Window.SCORE, True)


def test_a_model_that_nobody_could_fetch_holds_up_no_others() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for validator in VALIDATORS:
        assert world.commit_scores(order_id, validator, {MODELS[1]: 95}).accepted
    world.wait(world.order(order_id).closes_ms - world.now_ms)
    assert (world.order(order_id).window, world.order(order_id).extended) == (Window.OPEN_SCORES, False)


def test_who_cannot_be_replaced_gets_a_second_window() -> None:
    world = new_world()
    order_id = extended(world)
    order = world.order(order_id)
    assert set(order.seats[0]) == {validator.address for validator in VALIDATORS} and not order.silent
    assert world.commit_scores(order_id, VALIDATORS[2], SCORES).accepted, "the third account of three"
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[:3]:
        assert world.open_scores(order_id, validator, SCORES).accepted
    world.wait_for(order_id, Window.CHALLENGE)
    slashed = [world.ledger.book.stake(validator.address, Role.VALIDATOR).slashed for validator in VALIDATORS]
    assert slashed[:3] == [0, 0, 0] and slashed[3] > 0


def test_without_three_accounts_after_the_extension_the_order_is_void() -> None:
    world = new_world()
    order_id = extended(world)
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[:2]:
        assert world.open_scores(order_id, validator, SCORES).accepted
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == VoidReason.NO_QUORUM
    slashed = [world.ledger.book.stake(validator.address, Role.VALIDATOR).slashed for validator in VALIDATORS]
    assert slashed == [0, 0, 0, 0], "a model that two could fetch may be one whose link answers two"
    assert all(s.locked == 0 for account in world.ledger.state.accounts.values() for s in account.stakes)


def test_an_order_waits_for_validators_and_starts_when_they_come() -> None:
    world = World()
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(order)
    for number in range(4):
        assert world.order(order.id).window is Window.WAITING
        world.stake(VALIDATORS[number], Role.VALIDATOR, 20 * POT)
    state = world.order(order.id)
    assert (state.window, state.t0_ms) == (Window.COMMIT, world.now_ms)
    assert world.ledger.state.validator_sets[state.validators_at] == {each.address: 20 * POT for each in VALIDATORS}


@pytest.mark.parametrize(("last_grains", "window"), [(20 * POT, Window.COMMIT), (20 * POT - 1, Window.WAITING)])
def test_their_stakes_must_be_worth_ten_locks(last_grains: int, window: Window) -> None:
    world = new_world(structs.replace(PARAMETERS, min_stake_grains=(0, POT, 0, 100 * POT)))
    parameters = world.parameters
    for validator in VALIDATORS:
        world.must(validator, Unregister(1))
    for number, grains in enumerate([20 * POT, 20 * POT, 20 * POT, last_grains]):
        world.stake(key(f"small {number}"), Role.VALIDATOR, grains)
    order = world.new_order(reward_grains=80 * POT)
    assert parameters.score_lock_grains(order.reward_grains) == 8 * POT
    world.must(world.client, Put(order))
    world.escrow(order)
    assert world.order(order.id).window is window


def test_an_order_that_finds_too_few_validators_gets_everything_back() -> None:
    world = World()
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(order)
    world.wait(world.parameters.pool_ms)
    assert world.order(order.id).void_reason == VoidReason.TOO_FEW_VALIDATORS
    assert world.ledger.state.accounts[world.client.address].earned_grains == 28 * POT


def test_validators_that_work_elsewhere_when_training_ends_void_the_order_before_anything_is_shown() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    stakes = [world.ledger.book.stake(each.address, Role.VALIDATOR) for each in VALIDATORS[:2]]
    for stake in stakes:
        stake.locked = stake.bonded
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == VoidReason.TOO_FEW_VALIDATORS
    assert world.ledger.book.stake(PROVIDERS[1].address, Role.PROVIDER).slashed == 0, "its bond comes back"
    for stake in stakes:
        stake.locked = 0


@pytest.mark.parametrize(("grains", "window"), [(56 * POT, Window.REVEAL), (56 * POT - 3, Window.VOID)])
def test_who_is_left_when_training_ends_must_be_worth_seven_locks(grains: int, window: Window) -> None:
    world = World(parameters=structs.replace(PARAMETERS, min_stake_grains=(POT, POT, 0, 100 * POT)))
    for number in range(3):
        world.stake(key(f"small {number}"), Role.VALIDATOR, -(-grains // 3) if number else grains - 2 * -(-grains // 3))
    claimant = key("claimant")
    world.stake(claimant, Role.VALIDATOR, 30 * POT)
    world.stake(claimant, Role.PROVIDER, 30 * POT)
    order_id, order = world.start(reward_grains=80 * POT)
    assert world.parameters.score_lock_grains(order.reward_grains) == 8 * POT
    assert world.claim(order_id, claimant, "model").accepted
    world.wait(world.order(order_id).closes_ms - world.now_ms)
    assert world.order(order_id).window is window


def test_a_redraw_gives_nobody_the_models_of_another_set() -> None:
    world = new_world()
    elsewhere = key("elsewhere")
    world.stake(elsewhere, Role.VALIDATOR, 10**6 * POT)
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    order, (one, two, three, silent) = world.order(order_id), (validator.address for validator in VALIDATORS)
    order.seats = [[one, one, two, two, three, silent, silent], [elsewhere.address] * 7]
    for claim in order.claims.values():
        claim.seat_set = 0
    for validator in VALIDATORS[:3]:
        assert world.commit_scores(order_id, validator, SCORES).accepted
    order.locked = sorted({*order.locked, *(v.address for v in VALIDATORS), elsewhere.address})
    order.electors = sorted({*order.electors, elsewhere.address})
    windows._redraw(world.ledger.book, order_id, order)
    assert order.seats[0][:5] == [one, one, two, two, three] and set(order.seats[0]) == {one, two, three}
    assert order.seats[1] == [elsewhere.address] * 7 and order.silent == [(silent, 0), (silent, 0)]


def test_sets_of_validators_are_shared_and_forgotten() -> None:
    world = new_world()
    first, second = bring_to(world, Window.COMMIT, claimed=False), bring_to(world, Window.COMMIT, claimed=False)
    world.stake(key("newcomer"), Role.VALIDATOR)
    third = bring_to(world, Window.COMMIT, claimed=False)
    assert [world.order(each).validators_at for each in (first, second, third)] == [1, 1, 2]
    finish(world)
    assert world.ledger.state.validator_sets == {}


def test_every_kind_has_a_body_and_a_handler_and_every_window_an_end() -> None:
    assert set(BODIES) == set(HANDLERS)
    assert set(KINDS) <= set(BODIES)
    for window, rule in TABLE.items():
        seen = []
        while rule.next is not None:
            seen.append(window)
            window, rule = rule.next, TABLE[rule.next]
            assert window not in seen
        assert rule.phase is Phase.ENDED


def test_the_diagram_shows_every_window() -> None:
    drawn = diagram()
    assert all(f" {window}" in drawn for window in Window)
    assert drawn.startswith("stateDiagram-v2")
    assert encode(drawn)


def test_the_diagram_shows_every_way_on_and_none_out_of_an_end() -> None:
    lines = {line.strip() for line in diagram().splitlines()}
    assert "commit --> reveal: claim, withdraw (time is up)" in lines
    assert "reveal --> release: reveal_model, attest_boxes (all have acted, or time is up)" in lines
    assert "judge --> finalization: verdict (all have acted, or time is up)" in lines
    assert {"settled --> [*]", "void --> [*]", "commit --> void", "score --> void"} <= lines
    assert "finalization --> void" not in lines and not any("None" in line for line in lines)
    assert len(lines) == 1 + 1 + 10 + 9 + 3


def test_events_about_an_order_name_it_and_who_acted() -> None:
    world = new_world()
    order_id = bring_to(world, Window.SETTLED)
    seen = {(event.kind, event.order) for event in world.events if event.order == order_id}
    kinds = {kind for kind, _ in seen}
    assert kinds == {
        "order_put", "chain_event", "order_started", "window_opened", "claim_committed", "model_revealed",
        "share_released", "key_released", "validators_drawn", "scores_committed", "score_opened", "order_sealed",
        "order_settled", "blobs_attested", "boxes_attested", "opening_judged", "model_shares_released", "model_opened",
    }  # fmt: skip
    acted = {kind: {event.account for event in world.events if event.kind == kind} for kind in kinds}
    providers, validators = {each.address for each in PROVIDERS}, {each.address for each in VALIDATORS}
    assert acted["claim_committed"] == acted["model_revealed"] == providers
    assert acted["scores_committed"] == acted["score_opened"] == validators
    assert acted["order_sealed"] == acted["order_settled"] == {world.order(order_id).winner}
    assert acted["order_put"] == acted["order_started"] == {world.client.address}


def test_a_settled_orders_last_window_closes_when_the_chain_confirms() -> None:
    world = new_world()
    order = world.order(bring_to(world, Window.FINALIZATION))
    before = [span.closed_ms for span in order.timeline[:-1]]
    world.wait(world.parameters.update_ms + 100)
    world.sign_epoch()
    world.now_ms += 77
    world.settle()
    assert order.window is Window.SETTLED
    assert [span.closed_ms for span in order.timeline[:-1]] == before and 0 not in before
    assert order.timeline[-1].closed_ms == order.ended_ms == world.now_ms
