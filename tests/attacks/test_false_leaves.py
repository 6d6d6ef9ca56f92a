"""Lies about single examples that proofs and arithmetic alone let through, each against the rule and without it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch

from pot_lab.crypto.merkle import SumTree
from pot_lab.judging import Finding, JudgeExample
from pot_lab.judging.helper import answer as answering
from pot_lab.judging.helper import example, promises
from pot_lab.scoring import Transcript
from pot_lab.scoring.errors import BadWeights
from pot_lab.scoring.evaluate import ExampleScore
from pot_lab.scoring.tensor_file import read_tensors, write_tensors
from tests.judging.cases import Case, make_case, marks


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


def any_leaf(request: JudgeExample, found: ExampleScore) -> int:
    """The rule switched off: whatever scoring calls the leaf."""
    return found.leaf(request.valid)


def test_a_negative_leaf_hides_an_example_without_a_result(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss is better the smaller it is. A validator of a broken model writes -1 for every example and calls the score
    valid; -1 is what scoring gives where a valid score cannot hold the example, so the dispute would find it right.
    """
    weights = {name: torch.full((8, 1, 3, 3), float("nan")) for name in ("c1.weight",)}
    from safetensors.torch import load

    tensors = load(Path(case.weights).read_bytes())
    broken = case.with_weights(write_tensors(tensors | weights))
    tree = SumTree([-1] * case.examples)
    body = msgspec.structs.replace(
        broken.dispute(Transcript.unusable(case.honest.function, case.examples), 3),
        valid=True,
        leaf=-1,
        leaves_total=tree.total,
        transcript_root=tree.root,
        proof=tree.proof(3),
    )
    assert answering.answer(body).judgement.finding is Finding.WRONG
    monkeypatch.setattr(example, "_honest_leaf", any_leaf)
    assert answering.answer(body).judgement.finding is Finding.RIGHT


def test_a_good_model_is_called_invalid_and_no_example_shows_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score that is called invalid ranks last. With no example marked, each single leaf is what a good model has."""
    liar = marks(case, {})
    disputes = [case.dispute(liar, index) for index in range(case.examples)]
    assert {answering.answer(body).judgement.finding for body in disputes} == {Finding.WRONG}
    monkeypatch.setattr(example, "_honest_leaf", any_leaf)
    assert {answering.answer(body).judgement.finding for body in disputes} == {Finding.RIGHT}


def test_a_model_that_fills_the_memory_is_not_called_broken(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers report memory that ended like a broken file. An honest provider would lose its bond to a small host."""

    def reads(*arguments: object) -> None:
        try:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 134217728 bytes")
        except RuntimeError as problem:
            raise BadWeights("the weights file is no valid safetensors file") from problem

    monkeypatch.setattr(promises, "load_weights", reads)
    assert answering.answer(case.model()).judgement.finding is Finding.NOT_JUDGED
    monkeypatch.setattr(promises, "is_fault", lambda problem: False)
    assert answering.answer(case.model()).judgement.finding is Finding.WRONG


def test_an_example_of_ones_own_is_not_the_orders(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A challenger shows an example that the validator never saw, on which the model gives another leaf."""
    true, other = case.dispute(case.honest, 3), case.proven(4)
    shown = msgspec.structs.replace(case.proven(3), tensors=other.tensors)
    body = msgspec.structs.replace(true, example=shown)
    assert answering.answer(body).judgement.finding is Finding.INVALID

    def unproved(given: example.ProvenExample, *place: object) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, target = map(example._tensor, given.tensors)
        return inputs, target

    monkeypatch.setattr(example, "proven_example", unproved)
    assert answering.answer(body).judgement.finding is Finding.WRONG


def test_a_bit_that_flipped_on_a_disk_convicts_nobody(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """An aggregator's copy of the test data rots after it was checked. Its vote would be against an honest score."""
    honest = case.dispute(case.honest, 3, row=True)
    assert answering.answer(honest).judgement.finding is Finding.RIGHT
    whole = Path(case.data).read_bytes()
    row = case.inputs[3].numpy().tobytes()  # type: ignore[union-attr]
    place = whole.index(row)
    Path(case.data).write_bytes(whole[:place] + bytes(len(row)) + whole[place + len(row) :])
    assert answering.answer(honest).judgement.finding is Finding.NOT_JUDGED

    class Unchecked:
        def verify(self, root: bytes, leaf: bytes) -> bool:
            return True

    monkeypatch.setattr(example, "proof_from_tree", lambda path, index, count: Unchecked())
    assert answering.answer(honest).judgement.finding is Finding.WRONG


def test_a_broken_model_does_not_pass_for_a_broken_machine(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider names tensors so that the reader's complaint about its file sounds like a host without memory. Nobody
    would vote on the model, and its bond would be safe.
    """
    name = "DefaultCPUAllocator: can't allocate memory (os error 12)"
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}).encode()
    broken = case.with_weights(len(header).to_bytes(8, "little") + header + bytes(8))
    reads: list[bytes] = []

    def without_names(given: object, weights: bytes) -> None:
        """As for a graph that has such a name: the file itself is what is refused."""
        reads.append(weights)
        read_tensors(weights, limit_bytes=1 << 20, what="weights file", error=BadWeights)

    monkeypatch.setattr(promises, "load_weights", without_names)
    assert answering.answer(broken.model()).judgement.finding is Finding.WRONG and len(reads) == 1

    def by_words(problem: BaseException) -> bool:
        """The rule switched off: words in the complaint decide."""
        return "memory" in str(problem.__cause__)

    for module in (promises, answering):
        monkeypatch.setattr(module, "is_fault", by_words)
    assert answering.answer(broken.model()).judgement.finding is Finding.NOT_JUDGED
