"""Every window takes its own kinds of transactions until its last millisecond, and no other kind."""

from __future__ import annotations

import pytest

from pot_lab.crypto.canonical import encode
from pot_lab.protocol.cycle import PLACES, TABLE, Phase, VoidReason, Window, diagram, window_accepting
from pot_lab.protocol.ledger import HANDLERS, Ledger
from pot_lab.protocol.transactions import BODIES, open_transaction
from tests.protocol.scenes import MODELS, PROVIDERS, RESTING, SCORES, VALIDATORS, bring_to, finish, new_world, speech

KINDS = sorted({kind for rule in TABLE.values() for kind in rule.accepts})
ACCEPTED = [(window, kind) for window, rule in TABLE.items() for kind in rule.accepts]
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


@pytest.mark.parametrize("window", [w for w in RESTING if TABLE[w].duration])
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


def test_the_score_windows_are_extended_once_and_no_more() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for validator in VALIDATORS[:2]:
        world.commit_scores(order_id, validator, SCORES)
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[:2]:
        world.open_scores(order_id, validator, SCORES)
    order = world.order(order_id)
    drawn = {provider: list(claim.assigned) for provider, claim in order.claims.items()}
    assert (order.window, order.extended) == (Window.SCORE, True)
    assert world.commit_scores(order_id, VALIDATORS[2], SCORES).accepted, (
        "the third of three that make a quorum of four"
    )
    world.wait_for(order_id, Window.OPEN_SCORES)
    assert world.open_scores(order_id, VALIDATORS[2], SCORES).accepted
    assert order.window == Window.CHALLENGE
    assert drawn == {provider: claim.assigned for provider, claim in order.claims.items()}, "nobody is drawn anew"


def test_without_a_quorum_after_the_extension_the_order_is_void_and_the_silent_pay() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for validator in VALIDATORS[:3]:
        world.commit_scores(order_id, validator, SCORES)
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[:2]:
        world.open_scores(order_id, validator, SCORES)
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == VoidReason.NO_QUORUM
    slashed = [sum(stake.slashed for stake in world.ledger.state.accounts[v.address].stakes) for v in VALIDATORS]
    stake, bonded = world.parameters.min_validation_stake_grains, 200 * 10**9
    assert slashed == [0, 0, 2 * stake // 10, bonded // 1000]
    assert all(s.locked == 0 for account in world.ledger.state.accounts.values() for s in account.stakes)


def test_without_any_validator_the_order_ends_void_at_once() -> None:
    from pot_lab.protocol.parameters import Role
    from tests.protocol.world import World, key

    world = World()
    for provider in PROVIDERS:
        world.stake(provider, Role.PROVIDER)
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    assert world.order(order_id).void_reason == VoidReason.NO_QUORUM
    assert world.ledger.state.accounts[key("client").address].earned_grains == 28 * 10**9


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
    assert "reveal --> release: reveal_model (all have acted, or time is up)" in lines
    assert "judge --> finalization: - (all have acted, or time is up)" in lines
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
        "order_settled",
    }  # fmt: skip
    acted = {kind: {event.account for event in world.events if event.kind == kind} for kind in kinds}
    providers, validators = {each.address for each in PROVIDERS}, {each.address for each in VALIDATORS}
    assert acted["claim_committed"] == acted["model_revealed"] == acted["validators_drawn"] == providers
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
