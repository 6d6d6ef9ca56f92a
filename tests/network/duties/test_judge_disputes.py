"""An aggregator's verdicts: a challenged leaf by itself, contradicting scores where their transcripts differ first."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import pytest

from pot_lab.judging import (
    CheckTranscript,
    ExampleRow,
    Finding,
    FirstDifference,
    JudgeBody,
    JudgeExample,
    Judgement,
    JudgePool,
)
from pot_lab.judging.records import LeafDifference, ProvenLeaf, not_judged
from pot_lab.network.duties.disputed_orders import sealed_name
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.judge_disputes import FIRST_RETRY_MS, JudgeDisputes
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.transactions import Verdict, open_body
from tests.network.duties.parts import opened, signer_of
from tests.protocol.orders.test_disputes import challenged, differing, unanimous_lie
from tests.protocol.scenes import MODELS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import World, key, leaves, link

ROW = ExampleRow(path="/data", tree="/tree")
TOTALS = {leaves(total).root: total for total in (10, 50, 80, 95, 100)}


class Judges(JudgePool):
    """Helpers that know each model's true score; their answers are there with the next poll."""

    def __init__(self, world: World, order_id: bytes) -> None:
        super().__init__([])
        self.truth = {world.mid(order_id, model): SCORES[model] for model in MODELS}
        self.asked: list[JudgeBody] = []
        self.answers: list[tuple[Hashable, Judgement]] = []
        self.false_files: set[str] = set()
        self.broken = False

    def submit(self, key: Hashable, body: JudgeBody, *, wall_s: float | None = None, turn: int = 0) -> None:
        self.asked.append(body)
        self.answers.append((key, not_judged("HelperDied") if self.broken else self.judge(body)))

    def collect(self) -> list[tuple[Hashable, Judgement]]:
        found, self.answers = self.answers, []
        return found

    def judge(self, body: JudgeBody) -> Judgement:
        if isinstance(body, CheckTranscript):
            return Judgement(finding=Finding.WRONG if body.path in self.false_files else Finding.RIGHT)
        if isinstance(body, FirstDifference):
            first, second = (TOTALS[each.root] for each in (body.first, body.second))
            index = min(first, second)
            shown = [
                ProvenLeaf(leaf=int(index < it), leaves_total=it, valid=True, proof=leaves(it).proof(index))
                for it in (first, second)
            ]
            difference = LeafDifference(index=index, first=shown[0], second=shown[1])
            return Judgement(finding=Finding.WRONG, difference=difference)
        assert isinstance(body, JudgeExample) and body.example == ROW
        assert body.proof.verify(body.transcript_root, body.leaves_total, body.leaf)
        right = body.leaf == int(body.proof.index < self.truth[body.mid])
        return Judgement(finding=Finding.RIGHT if right else Finding.WRONG)


class Bench:
    """The first aggregator's duty over a world's order."""

    def __init__(self, world: World, order_id: bytes, custody: Path) -> None:
        self.world, self.order_id, self.custody = world, order_id, custody
        self.judges = Judges(world, order_id)
        self.rows = {order_id: ROW}
        signer = signer_of(world, world.aggregators[0])
        self.duty = JudgeDisputes(lambda: world.ledger, signer, lambda: self.rows, self.model_of, custody, self.judges)
        self.now_ms = 0

    def model_of(self, name: bytes) -> str | None:
        """A model that is held is open here, too."""
        paths = {sealed_name(self.order_id, self.world.mid(self.order_id, each)): each for each in MODELS}
        path = self.custody / link(paths[name]).digest.hex()
        return str(path) if path.is_file() else None

    def holds(self, *names: str) -> None:
        for name in names:
            (self.custody / link(name).digest.hex()).write_bytes(b"")

    def verdicts(self, polls: int = 8) -> dict[int, bool]:
        """What is submitted in the next polls, by the total of the disputed score."""
        found = {}
        for _ in range(polls):
            self.now_ms += 100
            for transaction in opened(self.world, self.duty.poll(self.now_ms)):
                body = open_body(transaction)
                assert isinstance(body, Verdict)
                dispute = next(it for it in self.world.order(self.order_id).disputes if it.name == body.dispute)
                found[dispute.score.total] = body.right
        return found


ALL = ("graph", "transcript", *MODELS)


@pytest.mark.parametrize("lie", [10, 100])
def test_of_contradicting_scores_the_right_one_is_right_and_the_other_wrong(tmp_path: Path, lie: int) -> None:
    world = new_world()
    bench = Bench(world, differing(world, lie=lie), tmp_path)
    bench.holds(*ALL)
    assert bench.verdicts() == {lie: False, 95: True}


def test_each_question_is_asked_once_and_a_verdict_submitted_until_it_counts(tmp_path: Path) -> None:
    world = new_world()
    bench = Bench(world, differing(world), tmp_path)
    bench.holds(*ALL)
    assert set(bench.verdicts()) == {10, 95}
    asked = len(bench.judges.asked)
    assert bench.verdicts() == {}
    bench.now_ms += REPEAT_AFTER_MS
    assert bench.verdicts(1) == {10: False, 95: True} and len(bench.judges.asked) == asked
    dispute = next(it for it in world.order(bench.order_id).disputes if it.score.total == 10)
    world.must(world.aggregators[0], Verdict(bench.order_id, dispute.name, False))
    bench.now_ms += REPEAT_AFTER_MS
    assert bench.verdicts() == {95: True}


@pytest.mark.parametrize(("index", "right"), [(99, False), (7, True)])
def test_a_challenged_leaf_is_judged_by_itself(tmp_path: Path, index: int, right: bool) -> None:
    world = new_world()
    order_id = unanimous_lie(world)
    challenged(world, order_id, index)
    bench = Bench(world, order_id, tmp_path)
    bench.holds("graph", MODELS[1])
    assert bench.verdicts() == {100: right}
    assert [type(each) for each in bench.judges.asked] == [JudgeExample]


@pytest.mark.parametrize("missing", ["graph", "transcript", MODELS[1]])
def test_without_the_files_it_says_nothing_and_with_them_it_does(tmp_path: Path, missing: str) -> None:
    world = new_world()
    bench = Bench(world, differing(world), tmp_path)
    bench.holds(*(set(ALL) - {missing}))
    assert bench.verdicts() == {}
    bench.holds(missing)
    assert bench.verdicts() == {10: False, 95: True}


def test_without_open_test_data_it_says_nothing(tmp_path: Path) -> None:
    world = new_world()
    bench = Bench(world, differing(world), tmp_path)
    bench.holds(*ALL)
    bench.rows = {}
    assert bench.verdicts() == {} and bench.judges.asked == []


def test_a_score_whose_files_are_all_anothers_is_wrong_and_one_right_file_is_enough(tmp_path: Path) -> None:
    """A liar who opened what honest ones opened, with another file, takes no stake of theirs."""
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for place, validator in enumerate(VALIDATORS):
        scores = {**SCORES, MODELS[1]: 10} if place == 0 else SCORES
        assert world.commit_scores(order_id, validator, scores).accepted
    for place, validator in enumerate(VALIDATORS):
        scores = {**SCORES, MODELS[1]: 10} if place == 0 else SCORES
        world.open_scores_at(order_id, validator, scores, link(f"transcript {place}"))
    bench = Bench(world, order_id, tmp_path)
    bench.judges.false_files = {str(tmp_path / link(f"transcript {it}").digest.hex()) for it in (0, 1)}
    bench.holds("graph", *MODELS, "transcript 0", "transcript 1")
    assert bench.verdicts() == {10: False}  # of the other score not all files are here
    bench.holds("transcript 2")
    assert bench.verdicts() == {95: True}


def test_what_was_not_judged_is_asked_again_later(tmp_path: Path) -> None:
    world = new_world()
    bench = Bench(world, differing(world), tmp_path)
    bench.holds(*ALL)
    bench.judges.broken = True
    assert bench.verdicts(4) == {}
    asked, bench.judges.broken = len(bench.judges.asked), False
    assert bench.verdicts(2) == {} and len(bench.judges.asked) == asked
    bench.now_ms += FIRST_RETRY_MS
    assert bench.verdicts() == {10: False, 95: True}


def test_who_has_a_part_in_the_order_or_no_seat_says_nothing(tmp_path: Path) -> None:
    world = new_world()
    bench = Bench(world, differing(world), tmp_path)
    bench.holds(*ALL)
    stranger = JudgeDisputes(
        lambda: world.ledger,
        signer_of(world, key("stranger")),
        lambda: bench.rows,
        bench.model_of,
        tmp_path,
        bench.judges,
    )
    assert stranger.poll(1) == [] and bench.judges.asked == []
    order = world.order(bench.order_id)
    order.seats[0][0] = world.aggregators[0].address
    assert bench.verdicts() == {} and bench.judges.asked == []
