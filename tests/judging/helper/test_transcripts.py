"""Transcripts against opened scores, and where two of them contradict each other first."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.judging import Finding, TranscriptFile
from pot_lab.judging.helper.answer import answer
from tests.judging.cases import Case, make_case, marks

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


def test_the_transcript_of_an_opened_score_is_right(case: Case) -> None:
    for transcript in (case.honest, case.lying({1: 5}), marks(case, {2: 1})):
        assert answer(case.opened(transcript)).judgement.finding is Finding.RIGHT


def test_an_opened_score_that_its_transcript_does_not_show_is_wrong(case: Case) -> None:
    good = case.opened(case.honest)
    for body in (
        replace(good, total=good.total + 1),
        replace(good, leaves_total=good.leaves_total + 1),
        replace(good, valid=False),
        replace(good, root=bytes(32)),
        replace(good, function="accuracy/1"),
        replace(good, examples=21),
        replace(good, path=case.transcript_file(case.lying({1: 5})).path),
        replace(good, path=case.data),
    ):
        assert answer(body).judgement.finding is Finding.WRONG, body


def test_the_total_of_macro_f1_is_checked_although_it_is_no_sum(tmp_path: Path) -> None:
    case = make_case(tmp_path, function="macro_f1[classes=10]/1")
    good = case.opened(case.honest)
    assert good.total != good.leaves_total
    assert answer(good).judgement.finding is Finding.RIGHT
    assert answer(replace(good, total=good.leaves_total)).judgement.finding is Finding.WRONG


@given(st.dictionaries(st.integers(0, 19), st.integers(0, 300), max_size=5))
def test_the_first_difference_is_the_first_changed_leaf(case: Case, changes: dict[int, int]) -> None:
    other = case.lying(changes)
    differing = [i for i in range(20) if other.values[i] != case.honest.values[i]]
    found = answer(case.difference(case.honest, other)).judgement
    if not differing:
        assert found.finding is Finding.RIGHT and found.difference is None
        return
    assert found.finding is Finding.WRONG and found.difference is not None
    shown = found.difference
    assert shown.index == differing[0]
    assert (shown.first.leaf, shown.second.leaf) == (case.honest.values[shown.index], other.values[shown.index])
    assert shown.first.proof.verify(case.honest.root, shown.first.leaves_total, shown.first.leaf)
    assert shown.second.proof.verify(other.root, shown.second.leaves_total, shown.second.leaf)


def test_a_difference_in_validity_is_shown_where_one_of_the_two_is_wrong(case: Case) -> None:
    marked = marks(case, {5: 1, 9: 1})
    for first, second in ((case.honest, marked), (marked, case.honest)):
        found = answer(case.difference(first, second)).judgement
        assert found.difference is not None and found.difference.index == 5
        findings = [answer(case.dispute(transcript, 5)).judgement.finding for transcript in (case.honest, marked)]
        assert findings == [Finding.RIGHT, Finding.WRONG]


def test_files_that_are_not_the_transcripts_of_their_roots_are_invalid(case: Case) -> None:
    good = case.difference(case.honest, case.lying({3: 7}))
    for body in (
        replace(good, first=good.second),
        replace(good, examples=21),
        replace(good, examples=0),
        replace(good, examples=1 << 40),
        replace(good, function="accuracy/1"),
        replace(good, first=TranscriptFile(path=case.data, root=good.first.root)),
        replace(good, first=TranscriptFile(path=good.first.path, root=bytes(32))),
    ):
        expected = Finding.RIGHT if body.first == body.second else Finding.INVALID
        assert answer(body).judgement.finding is expected, body
    assert answer(replace(good, first=TranscriptFile(path="/nowhere", root=bytes(32)))).judgement.code == "CopyDamaged"
