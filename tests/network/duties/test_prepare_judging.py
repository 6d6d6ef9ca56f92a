"""Test data in dispute are opened once, checked, and gone with the dispute; no helper's death leaves half of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import encrypt
from pot_lab.judging import CheckTestData, ExampleRow, Finding, Judgement, OpenSealed, start_helper
from pot_lab.judging.client import JudgeHelper
from pot_lab.judging.pool import JudgePool
from pot_lab.judging.records import not_judged
from pot_lab.network.duties.prepare_judging import (
    DATA_FILE,
    FIRST_RETRY_MS,
    LOOK_EVERY_MS,
    TREE_FILE,
    DisputedTest,
    OpenedModel,
    PrepareJudging,
)
from tests.judging.cases import make_case
from tests.network.duties.test_judge import HeldJudges

RIGHT, WRONG = Judgement(finding=Finding.RIGHT), Judgement(finding=Finding.WRONG, code="BadDataset")
KEY = bytes(range(32))


def sealed(plain_bytes: int = 10) -> DisputedTest:
    return DisputedTest(
        ciphertext=Path("/c"), digest=bytes(32), key=KEY, plain_bytes=plain_bytes, plain_digest=b"\x02" * 32,
        root=bytes(32), examples=3, graph=Path("/g"), graph_digest=b"\x04" * 32, function="accuracy/1",
    )  # fmt: skip


def model() -> OpenedModel:
    return OpenedModel(
        ciphertext=Path("/m"), digest=bytes(32), key=KEY, plain_bytes=20, graph_digest=b"\x04" * 32, mid=b"\x03" * 32
    )


class Preparing:
    """A duty over orders that the test names."""

    def __init__(self, root: Path, pool: JudgePool | None = None, limit_bytes: int = 100) -> None:
        self.tests: dict[bytes, DisputedTest | OpenedModel] = {}
        self.near = False
        self.judges = HeldJudges()
        self.bodies = self.judges.bodies
        self.duty = PrepareJudging(self, root, pool or self.judges, limit_bytes=limit_bytes)
        self.now_ms = 0

    def note(self, events: Sequence[bytes]) -> None:
        pass

    def due(self) -> dict[bytes, DisputedTest | OpenedModel]:
        return self.tests

    def is_one_near(self) -> bool:
        return self.near

    def poll(self) -> None:
        self.now_ms += LOOK_EVERY_MS
        assert self.duty.poll(self.now_ms) == []

    def answer(self, judgement: Judgement) -> None:
        self.judges.answers = [(self.judges.submitted[-1], judgement)]
        self.poll()


def test_a_helper_is_prepared_when_a_file_will_be_due_soon(preparing: Preparing) -> None:
    preparing.poll()
    assert preparing.judges.prepared == 0
    preparing.near = True
    preparing.poll()
    assert preparing.judges.prepared == 1 and not preparing.judges.submitted


@pytest.fixture
def preparing(tmp_path: Path) -> Preparing:
    return Preparing(tmp_path / "judging")


def test_data_are_opened_then_checked_and_then_there(preparing: Preparing, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = preparing.judges.submit
    monkeypatch.setattr(preparing.judges, "submit", lambda key, body, **k: asked.append(body) or real(key, body, **k))
    preparing.tests = {b"one": sealed()}
    preparing.poll()
    preparing.poll()
    [opening] = asked
    assert isinstance(opening, OpenSealed) and (opening.key, opening.limit_bytes) == (KEY, 10)
    assert (opening.promised, opening.graph_digest) == (b"\x02" * 32, b"")
    preparing.answer(RIGHT)
    check = asked[1]
    assert isinstance(check, CheckTestData) and check.path == opening.target and check.function == "accuracy/1"
    assert preparing.duty.row_of(b"one") is None and preparing.duty.verdict_of(b"one") is None
    preparing.answer(RIGHT)
    assert preparing.duty.row_of(b"one") == ExampleRow(path=check.path, tree=check.tree)
    assert preparing.duty.verdict_of(b"one") == RIGHT and len(asked) == 2


@pytest.mark.parametrize("judgement", [RIGHT, WRONG])
def test_a_model_only_has_to_open_to_its_id(preparing: Preparing, judgement: Judgement) -> None:
    preparing.tests = {b"one": sealed(), b"one and model": model()}
    preparing.poll()
    opening = preparing.bodies[1]
    assert isinstance(opening, OpenSealed)
    assert (opening.promised, opening.graph_digest, opening.limit_bytes) == (b"\x03" * 32, b"\x04" * 32, 20)
    assert preparing.duty.model_of(b"one and model") is None
    preparing.answer(judgement)
    assert preparing.duty.verdict_of(b"one and model") == judgement and preparing.duty.row_of(b"one and model") is None
    assert preparing.duty.model_of(b"one and model") == (opening.target if judgement is RIGHT else None)
    assert preparing.duty.model_of(b"one") is None and preparing.duty.rows() == {}
    assert len(preparing.bodies) == 2


@pytest.mark.parametrize("steps", [[WRONG], [RIGHT, WRONG]])
def test_data_that_are_not_what_was_promised_are_known_as_such(preparing: Preparing, steps: list[Judgement]) -> None:
    preparing.tests = {b"one": sealed()}
    preparing.poll()
    for step in steps:
        preparing.answer(step)
    assert preparing.duty.verdict_of(b"one") == WRONG and preparing.duty.row_of(b"one") is None
    preparing.poll()
    assert len(preparing.judges.submitted) == len(steps)


def test_what_could_not_be_done_here_is_done_again_later_from_the_same_step(preparing: Preparing) -> None:
    preparing.tests = {b"one": sealed()}
    preparing.poll()
    folder = preparing.judges.submitted[0][1]
    (folder / DATA_FILE).write_bytes(b"a beginning")
    preparing.answer(not_judged("HelperDied"))
    for _ in range(FIRST_RETRY_MS // LOOK_EVERY_MS):
        preparing.poll()
    assert len(preparing.judges.submitted) == 2 and not (folder / DATA_FILE).exists()
    (folder / DATA_FILE).write_bytes(b"whole")
    preparing.answer(RIGHT)
    (folder / TREE_FILE).write_bytes(b"a beginning")
    preparing.answer(not_judged("HelperDied"))
    for _ in range(2 * FIRST_RETRY_MS // LOOK_EVERY_MS):
        preparing.poll()
    assert len(preparing.judges.submitted) == 4
    assert (folder / DATA_FILE).exists() and not (folder / TREE_FILE).exists()


def test_what_is_over_is_removed_and_a_late_answer_is_nobodys(preparing: Preparing) -> None:
    preparing.tests = {b"one": sealed()}
    preparing.poll()
    folder = preparing.judges.submitted[0][1]
    (folder / DATA_FILE).write_bytes(b"data")
    preparing.tests = {}
    preparing.poll()
    while folder.exists():
        pass
    preparing.tests = {b"one": sealed()}
    preparing.poll()
    assert preparing.judges.submitted[1][1] != folder
    preparing.judges.answers = [(preparing.judges.submitted[0], WRONG)]
    preparing.poll()
    assert preparing.duty.verdict_of(b"one") is None


def test_only_so_much_is_open_at_once(preparing: Preparing) -> None:
    preparing.tests = {b"one": sealed(60), b"two": sealed(60), b"three": sealed(40)}
    preparing.poll()
    assert [key[0] for key in preparing.judges.submitted] == [b"one", b"three"]
    del preparing.tests[b"one"]
    preparing.poll()
    assert [key[0] for key in preparing.judges.submitted] == [b"one", b"three", b"two"]


def test_what_an_earlier_process_left_is_removed(tmp_path: Path) -> None:
    for place in ("judging/old", ".gone.judging.1.1"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / DATA_FILE).write_bytes(b"left")
    (tmp_path / "log").write_bytes(b"another's")
    preparing = Preparing(tmp_path / "judging")
    preparing.poll()
    while [each.name for each in tmp_path.iterdir()] != ["log"]:
        pass


def test_a_real_helper_opens_and_checks_and_a_row_is_judged_by_what_it_left(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    (tmp_path / "sealed").write_bytes(encrypt(KEY, Path(case.data).read_bytes()))
    test = DisputedTest(
        ciphertext=tmp_path / "sealed",
        digest=sha256((tmp_path / "sealed").read_bytes()),
        key=KEY,
        plain_bytes=Path(case.data).stat().st_size,
        plain_digest=sha256(Path(case.data).read_bytes()),
        root=case.root,
        examples=case.examples,
        graph=Path(case.graph),
        graph_digest=sha256(Path(case.graph).read_bytes()),
        function=case.function,
    )
    helper = JudgeHelper(start_helper)
    pool = JudgePool([helper])
    preparing = Preparing(tmp_path / "judging", pool, limit_bytes=1 << 30)
    preparing.tests = {b"good": test, b"bad": test._replace(root=bytes(32)), b"closed": test._replace(key=bytes(32))}
    try:
        while not all(preparing.duty.verdict_of(each) for each in preparing.tests):
            preparing.poll()
        found = {each: preparing.duty.verdict_of(each) for each in preparing.tests}
        assert [each.finding for each in found.values() if each] == [Finding.RIGHT, Finding.WRONG, Finding.WRONG]
        row = preparing.duty.row_of(b"good")
        assert row is not None and preparing.duty.row_of(b"bad") is None
        dispute = structs.replace(case.dispute(case.honest, 2), example=row)
        pool.submit("dispute", dispute)
        while not (answers := pool.collect()):
            pass
        assert answers[0][1].finding is Finding.RIGHT
    finally:
        preparing.duty.close()
