"""A cartel with all seats challenges its own lies about one model hundredfold, which costs nothing since the leaves are
wrong indeed; the judges are busy with these until the window ends, and the one challenge of its other lie is not heard.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from pathlib import Path

import pytest

from pot_lab.judging import ExampleRow, Finding, JudgeExample, Judgement, JudgePool
from pot_lab.network.duties import judge_disputes
from pot_lab.network.duties.disputed_orders import sealed_name
from pot_lab.network.duties.judge_disputes import JudgeDisputes
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Verdict, open_body
from tests.attacks.test_lying_seats import GOOD, JUNK, LIE, scored, winner
from tests.network.duties.parts import opened, signer_of
from tests.protocol.scenes import MODELS, VALIDATORS, new_world
from tests.protocol.world import World, key, link

ACCOMPLICES = [key(f"accomplice {place}") for place in range(2)]
EACH = range(10, 18)
"""Examples of the good model that the cartel calls wrong, and shows to be lies."""


class SlowJudges(JudgePool):
    """One answer a poll, in the pool's order; each leaf that is challenged here is wrong."""

    def __init__(self) -> None:
        super().__init__([])

    def collect(self) -> list[tuple[Hashable, Judgement]]:
        if not self._waiting:
            return []
        _, _, name, body, _ = heapq.heappop(self._waiting)
        assert isinstance(body, JudgeExample)
        return [(name, Judgement(finding=Finding.WRONG))]


def flooded(world: World, custody: Path, answers: int) -> bytes:
    """The order's winner, if each aggregator gets so many answers before the last window ends."""
    order_id = scored(world, 4)
    shown = [(each, MODELS[1], index) for each in ACCOMPLICES for index in EACH] + [(GOOD, MODELS[0], 50)]
    for accomplice in ACCOMPLICES:
        world.stake(accomplice, Role.PROVIDER)
    for challenger, model, index in shown:
        world.must(challenger, world.challenge(order_id, challenger, VALIDATORS[0], model, index))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    for challenger, model, index in shown:
        world.must(challenger, world.open_challenge(order_id, VALIDATORS[0], model, LIE[model], index))
    for name in ("graph", *MODELS):
        (custody / link(name).digest.hex()).write_bytes(b"")
    for aggregator in world.aggregators[:2]:
        rows = {order_id: ExampleRow(path="/data", tree="/tree")}
        signer = signer_of(world, aggregator)
        duty = JudgeDisputes(
            lambda: world.ledger,
            signer,
            lambda rows=rows: rows,
            {sealed_name(order_id, world.mid(order_id, each)): f"/{each}" for each in MODELS}.get,
            custody,
            SlowJudges(),
        )
        for poll in range(answers + 1):
            for transaction in opened(world, duty.poll(poll * 100)):
                body = open_body(transaction)
                assert isinstance(body, Verdict)
                world.must(aggregator, body)
    return winner(world, order_id)


def test_the_one_challenge_of_somebody_else_is_judged_among_the_first(tmp_path: Path) -> None:
    world = new_world()
    assert flooded(world, tmp_path, answers=4) == b"", "neither lie stands"
    assert all(world.ledger.book.stake(each.address, Role.VALIDATOR).slashed for each in VALIDATORS)


def test_first_come_first_served_the_flood_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_disputes, "by_turn", lambda order: [(0, each) for each in order.disputes])
    assert flooded(new_world(), tmp_path, answers=4) == JUNK.address
