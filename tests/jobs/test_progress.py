"""What a notebook may report, and what becomes of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.jobs.progress import Progress, _line, _plain
from pot_lab.jobs.registry import EVENT_LIMIT_BYTES, JobEventLog


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(), st.complex_numbers(), st.binary()))
def test_every_value_becomes_one_that_json_holds(value: object) -> None:
    assert json.loads(json.dumps(_plain(value), allow_nan=False)) == _plain(value)


def test_numbers_of_other_libraries_are_numbers() -> None:
    assert _plain(np.float32(0.5)) == 0.5
    assert _plain(np.float64("nan")) is None
    assert math.isclose(_plain(np.int64(3)), 3)


def test_the_text_fallback_reads_well() -> None:
    assert _line({"step": 3, "total": 10, "loss": 0.123456, "phase": "warm"}) == "step 3/10 loss=0.1235 phase=warm"
    assert _line({"step": 3, "total": None}) == "step 3"


def test_a_value_called_total_does_not_stand_for_the_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of scores did so, and a validator seemed to be at step 1 of 366."""
    progress, shown = Progress(1), list[dict[str, object]]()
    monkeypatch.setattr(progress, "_show", shown.append)
    progress(1, total=366, score=366)
    assert shown == [{"step": 1, "total": 1, "score": 366}]


def test_outside_of_a_kernel_a_report_goes_nowhere(capsys) -> None:
    Progress(1)(1, loss=0.5)
    assert capsys.readouterr().out == ""


def test_an_event_too_large_keeps_its_place(tmp_path) -> None:
    JobEventLog(tmp_path / "events.jsonl").emit("progress", data="x" * EVENT_LIMIT_BYTES)
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event["kind"] == "progress"
    assert event["oversize_bytes"] > EVENT_LIMIT_BYTES
