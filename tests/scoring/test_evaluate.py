"""Scores, invalid models, single examples, transcripts: what validators and disputes rely on."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pot_lab.errors import PotLabError, UnknownScoreFunction
from pot_lab.scoring import (
    ModelArtifact,
    exact_model,
    load_graph,
    model_id,
    parse_transcript,
    run_self_test,
    score,
    score_example,
    score_function,
    trainable,
    unusable_score,
)
from pot_lab.scoring.backends import Float64Backend, Int64Backend
from pot_lab.scoring.errors import (
    BadDataset,
    BadTranscript,
    DtypeMismatch,
    SelfTestFailed,
    ShapeMismatch,
)
from pot_lab.scoring.functions import ACCURACY, CROSS_ENTROPY
from pot_lab.scoring.transcript import Transcript
from tests.scoring.models import MLP, exported, family


def with_weights(artifact: ModelArtifact, change: object) -> ModelArtifact:
    model = trainable(load_graph(artifact.graph), artifact.weights)
    with torch.no_grad():
        change(model)  # type: ignore[operator]
    return ModelArtifact(artifact.graph, model.to_weights())


@pytest.mark.parametrize("function", ["accuracy", "cross_entropy"])
def test_one_example_agrees_with_the_whole_and_its_proof(function: str) -> None:
    _, inputs, targets = family("mlp")
    artifact = exported("mlp")
    whole = score(artifact, inputs, targets, function)
    assert whole.valid and whole.count == 70 and whole.total == int(whole.transcript.values.sum())
    for index in (0, 13, 69):
        one = score_example(artifact, inputs, targets, function, index=index)
        leaf = one.leaf(whole.valid)
        proof = whole.transcript.proof(index)
        assert proof.verify(whole.root, whole.total, leaf)
        assert not proof.verify(whole.root, whole.total, leaf + 1)
        assert not proof.verify(whole.root, whole.total + 1, leaf)


def test_a_module_an_artifact_and_its_files_have_the_same_score() -> None:
    module, inputs, targets = family("cnn")
    artifact = exported("cnn")
    exact = exact_model(load_graph(artifact.graph), artifact.weights)
    forms = [module, artifact, (artifact.graph, artifact.weights), exact]
    assert len({score(form, inputs, targets).digest for form in forms}) == 1


def test_a_better_model_has_a_better_score() -> None:
    _, inputs, targets = family("mlp")
    torch.manual_seed(0)
    module = MLP()
    before = {f: score(module, inputs, targets, f) for f in ("accuracy", "cross_entropy")}
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module.train()(inputs), targets).backward()
        optimizer.step()
    for function, first in before.items():
        after = score(module, inputs, targets, function)
        assert after.better_than(first) and not first.better_than(after) and not after.better_than(after)
    assert before["accuracy"].better_than(unusable_score("accuracy", 70))
    assert not unusable_score("accuracy", 70).better_than(before["accuracy"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
def test_a_weight_that_spoils_the_output_makes_the_score_invalid(value: float) -> None:
    _, inputs, targets = family("mlp")
    spoiled = with_weights(exported("mlp"), lambda m: m.get_parameter("net.6.bias")[2].fill_(value))
    result = score(spoiled, inputs, targets)
    if value == 1e38:  # large, but below 2**200: a number like any other
        assert result.valid
        return
    assert not result.valid and result.total == result.count == 70
    assert result.root == unusable_score("accuracy", 70).root
    one = score_example(spoiled, inputs, targets, index=5)
    assert one.invalid and one.leaf(True) == -1 and one.leaf(False) == 1


def test_an_operand_of_2_to_the_200_is_invalid_and_one_below_is_not() -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.layer, self.factor = nn.Linear(3, 2, dtype=torch.float64), factor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x * self.factor)

    inputs = torch.tensor([[1.0, 0.5, 0.25], [0.5, 0.25, 0.125]], dtype=torch.float64)
    targets = torch.tensor([0, 1])
    assert score(Scaled(2.0**199.0), inputs, targets).valid
    over = score(Scaled(2.0**200.0), inputs, targets)
    assert not over.valid and over.transcript.values.tolist() == [1, 0]


def test_ties_take_the_lowest_class() -> None:
    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0.0

    inputs = torch.randn(4, 3)
    assert score(Same(), inputs, torch.tensor([0, 1, 2, 0])).transcript.values.tolist() == [1, 0, 0, 1]


def test_a_loss_is_capped_at_50_nats() -> None:
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1e6

    inputs = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    assert score(Wrong(), inputs, torch.tensor([1, 0]), "cross_entropy").transcript.values.tolist() == [50_000_000, 0]


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "text"),
    [
        (torch.zeros(3, 19), torch.zeros(3, dtype=torch.int64), ShapeMismatch, r"inputs.*19.*20"),
        (torch.zeros(3, 20, 1), torch.zeros(3, dtype=torch.int64), ShapeMismatch, "inputs"),
        (torch.zeros(3, 20).double(), torch.zeros(3, dtype=torch.int64), DtypeMismatch, "inputs.*float64.*float32"),
        (torch.zeros(3, 20), torch.zeros(3), DtypeMismatch, "targets.*float32.*int64"),
        (torch.zeros(3, 20), torch.zeros(3, 1, dtype=torch.int64), ShapeMismatch, "targets"),
        (torch.zeros(3, 20), torch.zeros(4, dtype=torch.int64), ShapeMismatch, "3 and 4"),
        (torch.zeros(3, 20), torch.tensor([0, 5, 1]), BadDataset, "5 classes"),
        (torch.zeros(3, 20), torch.tensor([0, -1, 1]), BadDataset, "5 classes"),
        (torch.full((3, 20), math.nan), torch.zeros(3, dtype=torch.int64), BadDataset, "not finite.*example 0"),
        (torch.zeros(0, 20), torch.zeros(0, dtype=torch.int64), ShapeMismatch, "at least one example"),
        ("text", torch.zeros(3, dtype=torch.int64), DtypeMismatch, "no tensor"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(
    inputs: object, targets: object, error: type[Exception], text: str
) -> None:
    artifact = exported("mlp")
    with pytest.raises(error, match=text):
        score(artifact, inputs, targets)  # type: ignore[arg-type]


def test_a_function_that_is_not_known_is_refused() -> None:
    assert score_function("accuracy") is score_function("accuracy/1") is ACCURACY
    for name in ("accuracy/2", "f1", ""):
        with pytest.raises(UnknownScoreFunction):
            score_function(name)


def test_a_score_in_two_slices_is_another_score_with_an_identifier_of_its_own() -> None:
    module, inputs, targets = family("mlp")
    artifact = exported("mlp")
    exact = exact_model(load_graph(artifact.graph), artifact.weights)
    two = score(exact, inputs, targets, "cross_entropy", slices=2)
    assert two.function.identifier == "cross_entropy[slices=2]/1"
    assert score_function(two.function.identifier) == score_function("cross_entropy[slices=2]") == two.function
    forms = [score(m, inputs, targets, "cross_entropy[slices=2]/1").digest for m in (module, artifact, exact)]
    assert {*forms, score(exact.with_slices(2), inputs, targets, two.function).digest} == {two.digest}
    assert two.digest != score(exact, inputs, targets, "cross_entropy").digest
    assert parse_transcript(two.transcript.data, count=two.count).function == two.function
    one = score_example(exact, inputs, targets, two.function, index=3)
    assert two.transcript.proof(3).verify(two.root, two.total, one.leaf(True))
    for name in ("accuracy[slices=1]", "accuracy[slices=3]/1", "accuracy[]", "accuracy[slices=2", "[slices=2]/1"):
        with pytest.raises(UnknownScoreFunction):
            score_function(name)
    with pytest.raises(UnknownScoreFunction, match="1 or 2"):
        score(exact, inputs, targets, slices=3)


def test_a_model_id_names_graph_and_weights() -> None:
    artifact = exported("mlp")
    graph = load_graph(artifact.graph)
    ids = {
        model_id(graph.sha256, artifact.weights),
        model_id(graph.sha256, artifact.weights + b"x"),
        model_id(b"\0" * 32, artifact.weights),
    }
    assert len(ids) == 3 and {len(i) for i in ids} == {32}


def test_memory_does_not_grow_with_the_test_set() -> None:
    _, inputs, targets = family("cnn")
    exact = exact_model(load_graph(exported("cnn").graph), exported("cnn").weights)
    many = inputs[:1].expand(30_000, -1, -1, -1)  # one example in memory, 30,000 to score
    score(exact, many[:2000], targets[:1].expand(2000), batch_size=256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = score(exact, many, targets[:1].expand(30_000), batch_size=256)
    assert result.total in (0, 30_000)
    # The transcript's tree takes a few hundred bytes an example; activations of all examples would take 0.6 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


# ---- transcripts


@given(st.lists(st.integers(0, 50_000_000), min_size=1, max_size=40))
def test_a_transcript_comes_back_from_its_bytes(values: list[int]) -> None:
    transcript = Transcript.of(CROSS_ENTROPY, values, [False] * len(values))
    again = parse_transcript(transcript.data, count=len(values))
    assert (
        again.values.tolist() == values
        and again.valid
        and again.root == transcript.root
        and again.digest == transcript.digest
    )
    assert again.total == sum(values)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_an_invalid_transcript_shows_where(marks: list[bool]) -> None:
    transcript = Transcript.of(ACCURACY, [1] * len(marks), marks)
    again = parse_transcript(transcript.data, count=len(marks))
    assert not again.valid and again.total == sum(marks) and again.values.tolist() == [int(m) for m in marks]


def test_transcripts_that_contradict_themselves_are_refused() -> None:
    def data(valid: bool, values: list[int]) -> bytes:
        return Transcript(ACCURACY, valid, np.array(values, dtype=np.uint64)).data

    with pytest.raises(BadTranscript, match="no example can have"):
        parse_transcript(data(True, [0, 2]), count=2)
    with pytest.raises(BadTranscript, match="shows no example"):
        parse_transcript(data(False, [0, 0]), count=2)
    with pytest.raises(BadTranscript, match="no example can have"):
        parse_transcript(data(False, [3, 0]), count=2)
    with pytest.raises(BadTranscript, match="number of examples"):
        parse_transcript(data(True, [0, 1]), count=3)
    good = data(True, [0, 1])
    for bad in (good[:-1], good + b"\0", b"", good.replace(b"accuracy/1", b"accuracy/9"), b"\x96" + b"\xc0" * 6):
        with pytest.raises(PotLabError):
            parse_transcript(bad, count=2)


def test_values_wider_than_needed_are_refused() -> None:
    from pot_lab.crypto.canonical import encode

    with pytest.raises(PotLabError, match="could be shorter"):
        parse_transcript(encode([1, "accuracy/1", True, 2, 2, b"\0\0\1\0"]), count=2)


# ---- the self-test


@contextmanager
def flushing_subnormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("threads", [1, 2])
def test_this_machine_computes_the_known_answers(threads: int) -> None:
    torch.set_num_threads(threads)
    run_self_test()


def test_the_oracle_computes_the_known_answers() -> None:
    run_self_test(backend=Int64Backend())


def test_a_machine_that_flushes_subnormals_may_not_score() -> None:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush subnormals")
    with flushing_subnormals(), pytest.raises(SelfTestFailed, match="keeps subnormals"):
        run_self_test()


def test_a_product_of_reduced_precision_may_not_score() -> None:
    class Float32Backend(Float64Backend):
        def matmul(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a.float() @ b.float()).double()

    with pytest.raises(SelfTestFailed, match="product"):
        run_self_test(backend=Float32Backend())
