"""Requests and replies: one encoding each, bounded, and replies that no honest helper gives are seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import PotLabError
from pot_lab.judging import Finding, Judgement
from pot_lab.judging.helper.answer import answer
from pot_lab.judging.records import HelperReply, HelperRequest, contradiction, not_judged
from tests.judging.cases import Case, make_case

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


@dataclass(frozen=True)
class Samples:
    requests: list[bytes]
    replies: list[bytes]


@pytest.fixture(scope="module")
def samples(case: Case) -> Samples:
    liar = case.lying({3: 7})
    bodies = [
        case.dispute(liar, 3),
        case.dispute(liar, 3, row=True),
        case.test_data(),
        case.model(),
        case.opened(liar),
        case.difference(case.honest, liar),
        case.sealed(bytes(32)),
    ]
    return Samples(
        [encode(HelperRequest(number=1, wall_s=60, body=body)) for body in bodies],
        [encode(HelperReply(number=1, judgement=answer(body).judgement)) for body in bodies],
    )


def test_every_request_and_reply_comes_back_as_it_was(samples: Samples) -> None:
    for record in samples.requests:
        assert encode(decode(record, HelperRequest, limit_bytes=LIMIT)) == record
    for record in samples.replies:
        assert encode(decode(record, HelperReply, limit_bytes=LIMIT)) == record


@given(data=st.data())
def test_changed_requests_and_replies_are_refused_by_name_or_are_records(samples: Samples, data: st.DataObject) -> None:
    kind, pool = data.draw(st.sampled_from([(HelperRequest, samples.requests), (HelperReply, samples.replies)]))
    record = bytearray(data.draw(st.sampled_from(pool)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(record) - 1))
        record[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(record)))
    for changed in (bytes(record), bytes(record[:cut])):
        try:
            found = decode(changed, kind, limit_bytes=LIMIT)
        except PotLabError:
            continue
        assert encode(found) == changed


@given(st.binary(max_size=300))
def test_rubbish_is_refused_by_name(rubbish: bytes) -> None:
    for kind in (HelperRequest, HelperReply):
        try:
            decode(rubbish, kind, limit_bytes=LIMIT)
        except PotLabError:
            continue


@given(data=st.data())
def test_a_changed_request_is_answered_and_never_raises(samples: Samples, data: st.DataObject) -> None:
    """The helper's answer to whatever decodes is a judgement that fits a frame."""
    record = bytearray(data.draw(st.sampled_from(samples.requests)))
    place = data.draw(st.integers(0, len(record) - 1))
    record[place] ^= data.draw(st.integers(1, 255))
    try:
        request = decode(bytes(record), HelperRequest, limit_bytes=LIMIT)
    except PotLabError:
        return
    judgement = answer(request.body).judgement
    assert contradiction(request.body, judgement) is None
    assert len(encode(HelperReply(number=1, judgement=judgement))) < 1 << 16


def test_the_replies_of_an_honest_helper_contradict_nothing(samples: Samples) -> None:
    for request, reply in zip(samples.requests, samples.replies, strict=True):
        body = decode(request, HelperRequest, limit_bytes=LIMIT).body
        assert contradiction(body, decode(reply, HelperReply, limit_bytes=LIMIT).judgement) is None


def test_a_false_finding_that_contradicts_its_own_leaf_is_seen(case: Case) -> None:
    body = case.dispute(case.lying({3: 7}), 3)
    assert contradiction(body, Judgement(finding=Finding.RIGHT, expected=8)) is not None
    assert contradiction(body, Judgement(finding=Finding.RIGHT)) is not None
    assert contradiction(body, Judgement(finding=Finding.WRONG, expected=7)) is not None
    assert contradiction(case.model(), Judgement(finding=Finding.RIGHT, expected=7)) is not None


def test_a_difference_is_believed_by_its_proofs_alone(case: Case) -> None:
    liar = case.lying({3: 7, 9: 1})
    body = case.difference(case.honest, liar)
    true = answer(body).judgement
    assert true.difference is not None and true.difference.index == 3
    shown = true.difference
    replace = msgspec.structs.replace
    false = [
        None,
        replace(shown, index=4),
        replace(shown, second=shown.first),
        replace(shown, first=replace(shown.first, leaf=shown.first.leaf + 1)),
        replace(shown, first=replace(shown.first, leaves_total=shown.first.leaves_total + 1)),
        replace(shown, first=shown.second, second=shown.first),
    ]
    for difference in false:
        assert contradiction(body, replace(true, difference=difference)) is not None
    assert contradiction(case.model(), replace(true, finding=Finding.WRONG)) is not None
    assert contradiction(case.dispute(liar, 3), replace(true, expected=1)) is not None


def test_a_reason_of_any_length_is_cut_and_a_long_one_is_no_helpers(case: Case) -> None:
    assert contradiction(case.model(), not_judged("x" * 500, "y" * 5000)) is None
    assert contradiction(case.model(), Judgement(finding=Finding.INVALID, code="x" * 500)) is not None


def test_only_right_and_wrong_are_votes() -> None:
    assert [finding for finding in Finding if Judgement(finding=finding).is_vote] == [Finding.RIGHT, Finding.WRONG]


def test_whoever_asks_a_helper_loads_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, pot_lab.judging; print(*sorted({'torch', 'numpy', 'pot_lab.scoring'} & set(sys.modules)))"
    answer_ = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert answer_.stdout.split() == []
