"""Opened test data and models against what was promised: right as scored, wrong by any difference."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import sha256
from pot_lab.judging import Finding, TensorSchema
from pot_lab.judging.helper.answer import answer
from pot_lab.protocol.records import MAX_TEST_BYTES
from pot_lab.scoring import DEFAULT_LIMITS, dataset_root, save_dataset
from pot_lab.scoring.tensor_file import write_tensors
from tests.judging.cases import Case, make_case

replace = msgspec.structs.replace


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


def test_promised_test_data_and_models_are_right(case: Case) -> None:
    for body in (case.test_data(), case.model()):
        found = answer(body)
        assert found.sound and found.judgement.finding is Finding.RIGHT
    tree = Path(case.test_data().tree)
    assert tree.read_bytes() == Path(case.tree).read_bytes() and tree.stat().st_mode & 0o777 == 0o600


def test_a_tree_is_left_by_right_test_data_only_and_replaces_nothing(case: Case) -> None:
    good = case.test_data()
    assert answer(replace(good, root=bytes(32))).judgement.finding is Finding.WRONG
    assert not Path(good.tree).exists()
    Path(good.tree).write_bytes(b"kept")
    assert answer(good).judgement.code == "CopyDamaged"
    assert Path(good.tree).read_bytes() == b"kept"
    assert answer(replace(good, tree="/nowhere/tree")).judgement.code == "CopyDamaged"
    assert answer(replace(good, tree="a\0b")).judgement.code == "CopyDamaged"


def test_test_data_that_differ_from_the_promise_are_wrong(case: Case) -> None:
    good = case.test_data()
    image, target = good.schema
    for body in (
        replace(good, root=bytes(32)),
        replace(good, examples=19),
        replace(good, examples=1 << 40),
        replace(good, schema=(target, image)),
        replace(good, schema=(image,)),
        replace(good, schema=(TensorSchema(dtype="float64", shape=image.shape), target)),
    ):
        found = answer(body)
        assert found.sound and found.judgement.finding is Finding.WRONG, body


def test_a_graph_that_cannot_be_loaded_is_the_clients_and_a_damaged_copy_nobodys(case: Case) -> None:
    good = case.test_data()
    broken = case.folder / "broken.graph"
    broken.write_bytes(b"{}")
    promised = answer(replace(good, graph=str(broken), graph_digest=sha256(b"{}")))
    assert promised.sound and promised.judgement.finding is Finding.WRONG
    damaged = answer(replace(good, graph=str(broken)))
    assert (damaged.judgement.finding, damaged.judgement.code) == (Finding.NOT_JUDGED, "CopyDamaged")


def test_the_ledger_takes_no_larger_test_data_than_are_judged() -> None:
    assert DEFAULT_LIMITS.dataset_bytes == MAX_TEST_BYTES


@given(data=st.data())
def test_a_changed_or_cut_example_is_wrong(fixed: Case, data: st.DataObject) -> None:
    whole = bytearray(Path(fixed.data).read_bytes())
    changed = fixed.folder / "changed.safetensors"
    header_bytes = 8 + int.from_bytes(whole[:8], "little")
    place = data.draw(st.integers(header_bytes, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.sampled_from([len(whole), place]))
    changed.write_bytes(whole[:cut])
    found = answer(replace(fixed.test_data(), path=str(changed)))
    assert found.sound and found.judgement.finding is Finding.WRONG


@given(data=st.data())
def test_a_changed_header_of_test_data_is_judged_and_is_no_fault(fixed: Case, data: st.DataObject) -> None:
    """The root binds the examples, not how a file lists them: a blank may become another one."""
    whole = bytearray(Path(fixed.data).read_bytes())
    changed = fixed.folder / "header.safetensors"
    place = data.draw(st.integers(0, 7 + int.from_bytes(whole[:8], "little")))
    whole[place] ^= data.draw(st.integers(1, 255))
    changed.write_bytes(whole)
    found = answer(replace(fixed.test_data(), path=str(changed)))
    assert found.sound and found.judgement.is_vote
    Path(fixed.test_data().tree).unlink(missing_ok=True)


def test_test_data_that_no_model_of_the_order_can_be_scored_with_are_wrong(case: Case) -> None:
    """Root, count and schema hold, and yet every validator would refuse the data: classes that the model lacks."""
    targets = torch.full((20,), 10)
    path = case.folder / "beyond.safetensors"
    save_dataset(path, case.inputs, targets)
    body = replace(case.test_data(), path=str(path), root=dataset_root(case.inputs, targets))
    found = answer(body)
    assert found.sound and (found.judgement.finding, found.judgement.code) == (Finding.WRONG, "BadDataset")


def test_test_data_with_a_value_that_is_not_finite_are_wrong(case: Case) -> None:
    whole = bytearray(Path(case.data).read_bytes())
    inputs = case.inputs.clone()
    first = whole.index(inputs[0].numpy().tobytes())
    inputs[0, 0, 0, 0] = float("nan")
    whole[first : first + inputs.numel() * 4] = inputs.numpy().tobytes()
    path = case.folder / "nan.safetensors"
    path.write_bytes(whole)
    body = replace(case.test_data(), path=str(path), root=dataset_root(inputs, case.targets))
    assert answer(body).judgement.finding is Finding.WRONG


def test_a_model_of_another_id_or_form_is_wrong(case: Case) -> None:
    assert answer(replace(case.model(), mid=bytes(32))).judgement.finding is Finding.WRONG
    for weights in (b"", b"rubbish", b"\x80\x04 a pickle", write_tensors({"other": torch.zeros(2)})):
        found = answer(case.with_weights(weights).model())
        assert found.sound and found.judgement.finding is Finding.WRONG


@given(data=st.data())
def test_a_changed_byte_of_a_model_is_wrong(fixed: Case, data: st.DataObject) -> None:
    whole = bytearray(Path(fixed.weights).read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    changed = fixed.folder / "changed-weights.safetensors"
    changed.write_bytes(whole)
    found = answer(replace(fixed.model(), weights=str(changed)))
    assert found.sound and found.judgement.finding is Finding.WRONG


def test_missing_copies_are_no_votes(case: Case) -> None:
    for body in (
        replace(case.test_data(), path="/nowhere"),
        replace(case.test_data(), graph="/nowhere"),
        replace(case.model(), weights="/nowhere"),
        replace(case.model(), graph="/dev/zero"),
    ):
        assert answer(body).judgement.code == "CopyDamaged"
