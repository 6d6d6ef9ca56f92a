"""Faults of a machine are never votes: memory, the operating system and bugs end in "not judged"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.errors import PotLabError
from pot_lab.judging import Finding
from pot_lab.judging.helper import answer as answering
from pot_lab.judging.helper import promises
from pot_lab.judging.helper.faults import is_fault
from pot_lab.scoring.errors import BadWeights
from tests.judging.cases import Case, make_case


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


def caused(problem: PotLabError, cause: BaseException) -> PotLabError:
    problem.__cause__ = cause
    return problem


FAULTS = [
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ZeroDivisionError("a bug"),
    OSError(5, "Input/output error"),
    caused(BadWeights("the weights file is no valid safetensors file"), MemoryError()),
    caused(BadWeights("the weights file is no valid safetensors file"), OSError(12, "Cannot allocate memory")),
    caused(
        BadWeights("no file"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ),
    caused(BadWeights("no file"), caused(BadWeights("no file"), MemoryError())),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_of_this_machine_is_not_judged_and_ends_the_helper(
    case: Case, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*arguments: object) -> None:
        raise fault

    for module, name, body in (
        (promises, "load_weights", case.model()),
        (answering, "judge_example", case.dispute(case.honest, 0)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, raises)
            found = answering.answer(body)
        assert found.judgement.finding is Finding.NOT_JUDGED and not found.sound


def refusals() -> list[Callable[[], object]]:
    from pot_lab.scoring import load_graph
    from pot_lab.scoring.tensor_file import read_tensors

    def tensors(data: bytes) -> Callable[[], object]:
        return lambda: read_tensors(data, limit_bytes=1 << 20, what="file", error=BadWeights)

    header = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}'
    named = b'{"MemoryError: os error 12":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}'
    return [
        lambda: load_graph(b"rubbish"),
        lambda: load_graph(b'{"a":1}'),
        tensors(b""),
        tensors(b"rubbish and more rubbish"),
        tensors(len(header).to_bytes(8, "little") + header + bytes(4)),
        tensors(len(named).to_bytes(8, "little") + named + bytes(4)),
        tensors(len(header).to_bytes(8, "little") + header + bytes(16)),
    ]


@pytest.mark.parametrize("refuse", refusals())
def test_a_broken_file_is_no_fault_of_this_machine(refuse: Callable[[], object]) -> None:
    with pytest.raises(PotLabError) as refusal:
        refuse()
    assert not is_fault(refusal.value)
