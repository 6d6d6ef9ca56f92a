"""An order brought to each window of the task cycle, and what somebody could rightly say there."""

from __future__ import annotations

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Identity
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.records import opening_name
from pot_lab.protocol.transactions import (
    AttestBoxes,
    CommitScores,
    HeldBox,
    ModelShare,
    OpenScores,
    Put,
    ReleaseKey,
    ReleaseModelShares,
    ReleaseShare,
    ScoreCommitment,
    Verdict,
    Withdraw,
)
from tests.protocol.world import World, key

PROVIDERS = [key(f"provider {i}") for i in range(2)]
VALIDATORS = [key(f"validator {i}") for i in range(4)]
MODELS = ["model 0", "model 1"]
SCORES = {"model 0": 80, "model 1": 95}
RESTING = list(Window)
"""Windows in which an order can be found."""
LEAF = 7
"""The example that the first provider challenges."""


def new_world(parameters: Parameters | None = None, aggregators: int = 4) -> World:
    """A world with two providers and four validators."""
    world = World(aggregators, parameters)
    for provider in PROVIDERS:
        world.stake(provider, Role.PROVIDER)
    for validator in VALIDATORS:
        world.stake(validator, Role.VALIDATOR)
    return world


def bring_to(world: World, window: Window, *, claimed: bool = True) -> bytes:
    """A new order in this window, where the first provider, validator, aggregator and the client have not acted yet."""
    if window is Window.WAITING:
        order = world.new_order()
        world.must(world.client, Put(order))
        return order.id
    order_id, _ = world.start()
    if window is Window.VOID:
        world.wait_for(order_id, Window.VOID)
        return order_id
    if window is Window.COMMIT:
        if claimed:
            assert world.claim(order_id, PROVIDERS[1], MODELS[1]).accepted
        return order_id
    for provider, model in zip(PROVIDERS, MODELS, strict=True):
        assert world.claim(order_id, provider, model).accepted
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[1], MODELS[1]).accepted
    if window is Window.REVEAL:
        return order_id
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
    if window is Window.RELEASE:
        return order_id
    world.release(order_id)
    for validator in VALIDATORS[1:]:
        assert world.commit_scores(order_id, validator, SCORES).accepted
    if window is Window.SCORE:
        return order_id
    assert world.commit_scores(order_id, VALIDATORS[0], SCORES).accepted
    for validator in VALIDATORS[1:]:
        assert world.open_scores(order_id, validator, SCORES).accepted
    if window is Window.OPEN_SCORES:
        return order_id
    assert world.open_scores(order_id, VALIDATORS[0], SCORES).accepted
    if window in (Window.OPEN_CHALLENGES, Window.JUDGE):
        world.must(*speech(world, order_id, "challenge"))
        world.wait_for(order_id, Window.OPEN_CHALLENGES)
        if window is Window.JUDGE:
            world.must(*speech(world, order_id, "open_challenge"))
            world.must(world.aggregators[1], Verdict(order_id, world.order(order_id).disputes[0].name, False))
        assert world.order(order_id).window == window
        return order_id
    if window is not Window.CHALLENGE:
        world.wait_for(order_id, Window.FINALIZATION)
    if window is Window.SETTLED:
        world.wait(world.parameters.update_ms + 100)
        world.sign_epoch()
        world.settle()
    assert world.order(order_id).window == window
    return order_id


def open_test_data(world: World, order_id: bytes, *, proven: bool) -> bool:
    """Release the test key, and have the data judged, if the order is in its release window; returns whether it is."""
    order = world.order(order_id)
    if order.window is not Window.RELEASE:
        return False
    for index, share in enumerate(world.shares[order_id]):
        if index not in order.shares:
            world.submit(world.aggregators[index], ReleaseShare(order_id, share))
    if proven and order.test_right is None and order.window is Window.RELEASE:  # time may be up
        world.judge(order_id)
    return True


def speech(world: World, order_id: bytes, kind: str) -> tuple[Identity, Record]:
    """What is accepted in the window that `bring_to` leaves the order in, if it is this kind's."""
    match kind:
        case "withdraw":
            return world.client, Withdraw(order_id)
        case "claim":
            model = world.sealed(order_id, PROVIDERS[0], MODELS[0])
            return PROVIDERS[0], world.claim_of(order_id, PROVIDERS[0], model)
        case "reveal_model":
            return PROVIDERS[0], world.reveal_of(order_id, world.sealed(order_id, PROVIDERS[0], MODELS[0]))
        case "attest_boxes":
            return world.aggregators[-1], AttestBoxes(order_id, (HeldBox(PROVIDERS[1].address),))
        case "release_share":
            return world.aggregators[0], ReleaseShare(order_id, world.shares[order_id][0])
        case "release_model_shares":
            open_test_data(world, order_id, proven=True)
            share = world.sealed(order_id, PROVIDERS[0], MODELS[0]).shares[0]
            return world.aggregators[0], ReleaseModelShares(order_id, (ModelShare(PROVIDERS[0].address, share),))
        case "release_key":
            return world.client, ReleaseKey(order_id, world.keys[order_id])
        case "commit_scores":
            items = []
            for model, total in SCORES.items():
                opened = world.opened(order_id, VALIDATORS[0], model, total)
                items.append(ScoreCommitment(opened.mid, world.commitment(order_id, VALIDATORS[0], opened)))
            return VALIDATORS[0], CommitScores(order_id, tuple(items))
        case "open_scores":
            items = [world.opened(order_id, VALIDATORS[0], model, total) for model, total in SCORES.items()]
            return VALIDATORS[0], OpenScores(order_id, tuple(items))
        case "challenge":
            body = world.challenge(order_id, PROVIDERS[0], VALIDATORS[1], MODELS[1], LEAF)
            return PROVIDERS[0], body
        case "open_challenge":
            return PROVIDERS[0], world.open_challenge(order_id, VALIDATORS[1], MODELS[1], SCORES[MODELS[1]], LEAF)
        case "verdict":
            if open_test_data(world, order_id, proven=False):
                return world.aggregators[0], Verdict(order_id, opening_name(world.network_id, order_id), True)
            disputes = world.order(order_id).disputes
            return world.aggregators[0], Verdict(order_id, disputes[0].name if disputes else bytes(32), False)
    raise AssertionError(kind)


def finish(world: World) -> None:
    """Let time pass and epochs settle until nothing is due any more."""
    for _ in range(60):
        if world.ledger.state.pending is not None:
            world.sign_epoch()
            world.settle()
            continue
        due = world.ledger.due_ms()
        if due is None:
            return
        world.now_ms = max(due, world.now_ms)
        world.batch()
    raise AssertionError(f"still due at {world.ledger.due_ms()}")
