"""One example, computed again: an honest leaf is right, any other is wrong, and what proves nothing is invalid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.merkle import MerkleProof, SumTree
from pot_lab.judging import ExampleRow, Finding, Judgement, TensorBytes
from pot_lab.judging.helper.answer import answer
from pot_lab.judging.records import JudgeBody
from pot_lab.scoring import Transcript
from pot_lab.scoring.tensor_file import write_tensors
from tests.judging.cases import Case, case_of, make_case, marks

replace = msgspec.structs.replace


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


def judged(body: JudgeBody) -> Judgement:
    found = answer(body)
    assert found.sound
    return found.judgement


@pytest.mark.parametrize(
    "function", ["accuracy/1", "top_k_accuracy[k=3]/1", "cross_entropy[slices=2]/1", "macro_f1[classes=10]/1"]
)
@pytest.mark.parametrize("row", [False, True])
def test_every_honest_leaf_is_right(tmp_path: Path, function: str, row: bool) -> None:
    case = make_case(tmp_path, function=function)
    for index in range(case.examples):
        found = judged(case.dispute(case.honest, index, row=row))
        assert found == Judgement(finding=Finding.RIGHT, expected=int(case.honest.values[index]))


@given(index=st.integers(0, 19), value=st.integers(0, 50_000_000))
def test_a_leaf_is_right_if_and_only_if_it_is_the_honest_one(fixed: Case, index: int, value: int) -> None:
    honest = int(fixed.honest.values[index])
    found = judged(fixed.dispute(fixed.lying({index: value}), index))
    assert found == Judgement(finding=Finding.RIGHT if value == honest else Finding.WRONG, expected=honest)


def test_the_leaves_beside_a_wrong_one_stay_right(case: Case) -> None:
    liar = case.lying({3: 7})
    assert judged(case.dispute(liar, 4)).finding is Finding.RIGHT


def test_a_leaf_beyond_what_an_example_can_have_is_wrong(case: Case) -> None:
    liar = case.lying({3: 50_000_001})
    assert judged(case.dispute(liar, 3)).finding is Finding.WRONG


def invalid_model(case: Case) -> Case:
    """The same graph with weights that give no finite result for any example."""
    from safetensors.torch import load

    tensors = {name: torch.full_like(t, float("nan")) for name, t in load(Path(case.weights).read_bytes()).items()}
    return case.with_weights(write_tensors(tensors))


def test_a_model_without_a_finite_result_is_right_to_be_called_invalid(case: Case) -> None:
    case = invalid_model(case)
    everywhere = marks(case, dict.fromkeys(range(case.examples), 1))
    assert judged(case.dispute(everywhere, 3)) == Judgement(finding=Finding.RIGHT, expected=1)
    assert judged(case.dispute(marks(case, {3: 1}), 4)) == Judgement(finding=Finding.WRONG, expected=1)
    assert judged(case.dispute(case.honest, 3)) == Judgement(finding=Finding.WRONG)


def test_a_model_that_is_called_invalid_without_cause_is_shown_by_one_example(case: Case) -> None:
    liar = marks(case, {3: 1})
    assert judged(case.dispute(liar, 3)) == Judgement(finding=Finding.WRONG, expected=0)
    assert judged(case.dispute(liar, 4)) == Judgement(finding=Finding.RIGHT, expected=0)


def test_weights_that_do_not_fit_the_graph_have_no_result_for_any_example(case: Case) -> None:
    for weights in (b"", b"rubbish", b"PK\x03\x04 a pickle", write_tensors({"other": torch.zeros(2)})):
        broken = case.with_weights(weights)
        everywhere = marks(broken, dict.fromkeys(range(broken.examples), 1))
        assert judged(broken.dispute(everywhere, 3)) == Judgement(finding=Finding.RIGHT, expected=1)
        assert judged(broken.dispute(broken.honest, 3)) == Judgement(finding=Finding.WRONG)


def test_the_same_file_of_a_row_and_a_proof_give_the_same(case: Case) -> None:
    liar = case.lying({3: 7})
    assert judged(case.dispute(liar, 3, row=True)) == judged(case.dispute(liar, 3))


def test_disputes_that_prove_nothing_are_invalid(case: Case) -> None:
    liar = case.lying({3: 7})
    good, other = case.dispute(liar, 3), case.dispute(liar, 4)
    example = good.example
    tensors = example.tensors  # type: ignore[union-attr]
    changed = TensorBytes(dtype="float32", shape=(1, 8, 8), data=bytes(256))
    bad = [
        replace(good, leaf=8),
        replace(good, leaves_total=good.leaves_total + 1),
        replace(good, transcript_root=bytes(32)),
        replace(good, proof=other.proof),
        replace(good, proof=replace(good.proof, count=21)),
        replace(good, proof=replace(good.proof, index=-1)),
        replace(good, examples=21),
        replace(good, examples=-1),
        replace(good, example=other.example),
        replace(good, test_root=bytes(32)),
        replace(good, function="accuracy"),
        replace(good, function="no such function/1"),
        replace(good, example=replace(example, tensors=(changed, tensors[1]))),
        replace(good, example=replace(example, tensors=tensors[:1])),
        replace(good, example=replace(example, tensors=())),
        replace(good, example=replace(example, tensors=tensors * 20)),
        replace(good, example=replace(example, proof=MerkleProof(3, 20, ()))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], shape=(8, 8)), tensors[1]))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], shape=(1, 8, 9)), tensors[1]))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], shape=(-1, 8, -8)), tensors[1]))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], shape=(1 << 60,) * 8), tensors[1]))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], shape=(1,) * 9), tensors[1]))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], dtype="int64"), tensors[1]))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], dtype="bfloat16"), tensors[1]))),
        replace(good, example=replace(example, tensors=(replace(tensors[0], data=b""), tensors[1]))),
    ]
    for body in bad:
        found = judged(body)
        assert found.finding is Finding.INVALID and found.code, body


def test_missing_and_damaged_copies_are_no_votes(case: Case, tmp_path: Path) -> None:
    good = case.dispute(case.honest, 3)
    other = make_case(tmp_path / "other", examples=21)
    Path(other.weights).write_bytes(Path(case.weights).read_bytes()[:-1] + b"\x7f")
    for body in (
        replace(good, graph="/nowhere"),
        replace(good, weights="/nowhere"),
        replace(good, weights=str(tmp_path)),
        replace(good, weights="/dev/zero"),
        replace(good, weights="a\0b"),
        replace(good, weights=other.weights),
        replace(good, mid=bytes(32)),
        replace(good, example=ExampleRow(path="/nowhere", tree=case.tree)),
        replace(good, example=ExampleRow(path=other.data, tree=other.tree)),
        replace(good, example=ExampleRow(path=case.data, tree="/nowhere")),
        replace(good, example=ExampleRow(path=case.data, tree=other.tree)),
        replace(good, example=ExampleRow(path=case.data, tree=case.tree), test_root=bytes(32)),
    ):
        found = judged(body)
        assert (found.finding, found.code) == (Finding.NOT_JUDGED, "CopyDamaged"), body


@given(data=st.data())
def test_a_damaged_row_or_tree_is_no_vote(fixed: Case, data: st.DataObject) -> None:
    """One changed bit in what the row's proof needs; elsewhere the honest answer stays."""
    index = data.draw(st.integers(0, fixed.examples - 1))
    name = data.draw(st.sampled_from(["data", "tree"]))
    whole = bytearray(Path(getattr(fixed, name)).read_bytes())
    first = 8 + int.from_bytes(whole[:8], "little") if name == "data" else 0
    whole[data.draw(st.integers(first, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = fixed.folder / f"damaged-{name}"
    damaged.write_bytes(whole)
    paths = {"path": fixed.data, "tree": fixed.tree} | {"path" if name == "data" else "tree": str(damaged)}
    found = judged(replace(fixed.dispute(fixed.honest, index), example=ExampleRow(**paths)))
    assert found.finding in (Finding.RIGHT, Finding.NOT_JUDGED)


def test_a_link_in_place_of_a_file_is_not_followed(case: Case, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(case.weights)
    assert judged(replace(case.dispute(case.honest, 3), weights=str(link))).code == "CopyDamaged"


def test_a_negative_leaf_is_wrong_although_its_proof_verifies(case: Case) -> None:
    """A sum tree takes signed values. -1 is also how scoring calls the leaf of a score that cannot be valid."""
    case = invalid_model(case)
    values = [int(v) for v in np.zeros(case.examples)]
    values[3] = -1
    tree = SumTree(values)
    shown = case.dispute(Transcript.unusable(case.honest.function, case.examples), 3)
    body = replace(shown, valid=True, leaf=-1, leaves_total=tree.total, transcript_root=tree.root, proof=tree.proof(3))
    assert judged(body) == Judgement(finding=Finding.WRONG)


def test_a_score_that_is_called_invalid_without_a_mark_is_wrong_at_every_example(case: Case) -> None:
    unmarked = marks(case, {})
    for index in (0, 7):
        assert judged(case.dispute(unmarked, index)) == Judgement(finding=Finding.WRONG)


class Pair(torch.nn.Module):
    """Two inputs of different number types, to one class score of three."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(7, 3)

    def forward(self, x: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([x, self.embed(token)], 1))


class Tokens(torch.nn.Module):
    """Four tokens to scores of each next one among five."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens))


def several_inputs() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor, str]:
    inputs = (torch.randn(6, 3), torch.arange(6) % 5)
    return Pair(), inputs, torch.arange(6) % 3, "cross_entropy/1"


def token_targets() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor, str]:
    tokens = torch.arange(24).reshape(6, 4) % 5
    return Tokens(), (tokens,), (tokens + 1) % 5, "next_token_loss/1"


def plain_numbers() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor, str]:
    return torch.nn.Linear(3, 2).double(), (torch.randn(6, 3).double(),), torch.randn(6, 2), "mse[decimals=3]/1"


@pytest.mark.parametrize("kind", [several_inputs, token_targets, plain_numbers])
@pytest.mark.parametrize("row", [False, True])
def test_models_of_every_form_are_judged(tmp_path: Path, kind: Callable[[], Any], row: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net, inputs, targets, function = kind()
    case = case_of(tmp_path, net, inputs, targets, function)
    for index in range(case.examples):
        honest = int(case.honest.values[index])
        assert judged(case.dispute(case.honest, index, row=row)).finding is Finding.RIGHT
        found = judged(case.dispute(case.lying({index: honest + 1}), index, row=row))
        assert found == Judgement(finding=Finding.WRONG, expected=honest)
    for body in (case.test_data(), case.model(), case.opened(case.honest)):
        assert judged(body).finding is Finding.RIGHT


def test_inputs_in_another_order_are_not_the_orders_example(tmp_path: Path) -> None:
    net, inputs, targets, function = several_inputs()
    case = case_of(tmp_path, net, inputs, targets, function)
    good = case.dispute(case.honest, 2)
    one, two, target = good.example.tensors  # type: ignore[union-attr]
    for tensors in ((two, one, target), (one, target), (one, two, target, target)):
        assert judged(replace(good, example=replace(good.example, tensors=tensors))).finding is Finding.INVALID
