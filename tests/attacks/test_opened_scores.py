"""What an opened score may say: the order's number of examples, and a total that the transcript's root binds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from pot_lab.crypto.merkle import SumNode, SumTree
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import transactions as rules
from pot_lab.protocol.records import ClaimScore
from pot_lab.protocol.transactions import CommitScores, OpenedScore, OpenScores, ScoreCommitment
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to, new_world
from tests.protocol.world import World

Lie = Callable[[OpenedScore], OpenedScore]
H = bytes(32)
OTHER = SumTree([1] * 5)


def counted(total: int, count: int, valid: bool = True) -> Lie:
    return lambda opened: structs.replace(opened, score=ClaimScore(total, count, valid))


def bound(top: SumNode, root: bytes) -> Lie:
    return lambda opened: structs.replace(opened, top=top, transcript_root=root)


def marked(failures: int) -> Lie:
    """An invalid score whose tree fits its total."""
    tree = SumTree([failures] + [0] * 99)
    score = ClaimScore(failures, 100, False)
    return lambda opened: structs.replace(opened, score=score, top=tree.top, transcript_root=tree.root)


LIES: dict[str, Lie] = {
    "a total of 10^15 of one example": counted(10**15, 1),
    "no example": counted(100, 0),
    "fewer examples than there are": counted(95, 99),
    "more examples than there are": counted(95, 101),
    "a total that the leaves do not add up to": counted(100, 100),
    "an invalid score without a failed example": counted(0, 100, False),
    "an invalid score with more failures than examples": counted(101, 100, False),
    "an invalid score whose leaves mark no example": marked(0),
    "an invalid score whose leaves mark more than there are": marked(101),
    "a root of zeros": bound(SumNode(H, 95), H),
    "the root of another tree": bound(OTHER.top, OTHER.root),
    "another tree's top": bound(SumNode(OTHER.top.hash, 95), OTHER.root),
    "a sum that no tree has": bound(SumNode(H, 1 << 62), H),
}


def play(world: World, lie: Lie) -> tuple[list[str], bytes]:
    """All validators commit to the lie about the first provider's model, and open it: the replies, and who wins."""
    order_id, _ = world.start()
    assert world.claim(order_id, PROVIDERS[0], MODELS[0]).accepted
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
    world.release(order_id)
    opened = lie(world.opened(order_id, VALIDATORS[0], MODELS[0], 95))
    for validator in VALIDATORS:
        commitment = world.commitment(order_id, validator, opened)
        world.must(validator, CommitScores(order_id, (ScoreCommitment(opened.mid, commitment),)))
    codes = [world.submit(validator, OpenScores(order_id, (opened,))).code for validator in VALIDATORS]
    world.wait_for(order_id, Window.FINALIZATION if not any(codes) else Window.VOID)
    return codes, world.order(order_id).winner


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_no_number_of_validators_opens_nonsense(lie: Lie) -> None:
    codes, winner = play(new_world(), lie)
    assert codes == ["BadCommitment"] * 4 and not winner


@pytest.mark.parametrize("lie", [LIES["a total of 10^15 of one example"], LIES["a root of zeros"]])
def test_without_the_rule_it_is_agreed_and_paid(lie: Lie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_check_score", lambda order, item: None)
    codes, winner = play(new_world(), lie)
    assert codes == [""] * 4 and winner == PROVIDERS[0].address


def test_the_truth_is_taken_and_so_is_an_invalid_score() -> None:
    assert play(new_world(), lambda opened: opened) == ([""] * 4, PROVIDERS[0].address)
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.invalid.add(MODELS[0])
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, {MODELS[0]: 3, MODELS[1]: 95}).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    order = world.order(order_id)
    assert order.winner == PROVIDERS[1].address
    assert order.claims[PROVIDERS[0].address].agreed == ClaimScore(3, 100, False)
