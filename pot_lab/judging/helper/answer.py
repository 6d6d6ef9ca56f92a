"""From a request to a judgement: every refusal and every fault has its finding, and nothing raises.

A refusal by a rule is the same on every machine. A fault of this machine (memory, a damaged copy, a bug) must never
look like one, or a validator would be slashed for it.
"""

from __future__ import annotations

from typing import NamedTuple

from pot_lab.errors import PotLabError
from pot_lab.judging.helper.example import judge_example
from pot_lab.judging.helper.faults import is_fault
from pot_lab.judging.helper.files import CopyDamaged
from pot_lab.judging.helper.opening import open_sealed
from pot_lab.judging.helper.promises import check_model, check_test_data
from pot_lab.judging.helper.transcripts import check_transcript, first_difference
from pot_lab.judging.records import (
    REASON_CHARACTERS,
    CheckModel,
    CheckTestData,
    CheckTranscript,
    Finding,
    JudgeBody,
    JudgeExample,
    Judgement,
    OpenSealed,
    not_judged,
)


class Answer(NamedTuple):
    """A judgement, and whether this process may go on: after a fault its state is not known."""

    judgement: Judgement
    sound: bool


def answer(body: JudgeBody) -> Answer:
    """Judge a request; never raises."""
    try:
        return Answer(_judged(body), True)
    except CopyDamaged as problem:
        return Answer(not_judged(problem.code, str(problem)), True)
    except PotLabError as problem:
        if is_fault(problem):
            return Answer(not_judged("OutOfMemory", str(problem)), False)
        reason = str(problem)[:REASON_CHARACTERS]
        return Answer(Judgement(finding=Finding.INVALID, code=problem.code, reason=reason), True)
    except MemoryError:
        return Answer(not_judged("OutOfMemory", "the helper's memory limit"), False)
    except Exception as problem:  # torch raises RuntimeError where memory ends; a bug must not become a vote either
        return Answer(not_judged("HelperFault", f"{type(problem).__name__}: {problem}"), False)


def _judged(body: JudgeBody) -> Judgement:
    if isinstance(body, JudgeExample):
        return judge_example(body)
    if isinstance(body, CheckTestData):
        return check_test_data(body)
    if isinstance(body, CheckModel):
        return check_model(body)
    if isinstance(body, CheckTranscript):
        return check_transcript(body)
    if isinstance(body, OpenSealed):
        return open_sealed(body)
    return first_difference(body)
