"""One example of a score, computed again: the whole of a dispute (protocol.md, "Judging")."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor

from pot_lab.errors import Oversize, PotLabError
from pot_lab.judging.helper.faults import is_fault
from pot_lab.judging.helper.files import CopyDamaged, check_file, read_copy
from pot_lab.judging.helper.tree_file import proof_from_tree
from pot_lab.judging.records import ExampleRow, Finding, JudgeExample, Judgement, ProvenExample, TensorBytes
from pot_lab.scoring import DEFAULT_LIMITS, DatasetFile, ModelGraph, exact_model, example_leaf, load_graph
from pot_lab.scoring.dataset import INPUT_DTYPES, check_dataset, some_rows
from pot_lab.scoring.errors import BadWeights, DtypeMismatch, ShapeMismatch
from pot_lab.scoring.evaluate import ExampleScore
from pot_lab.scoring.functions import score_function
from pot_lab.scoring.given_data import Inputs
from pot_lab.scoring.graph.model_graph import LARGEST_INPUTS, model_id
from pot_lab.scoring.score_records import ScoreFunction
from pot_lab.scoring.tensor_file import dtype_name

_DTYPES = {dtype_name(dtype): dtype for dtype in INPUT_DTYPES}
_LARGEST_DIMENSIONS = 8


class ProvesNothing(PotLabError):
    """A dispute's proofs do not verify, or its example is not one of the order's.

    What to do: prove the leaf under the opened transcript root, and the example under the order's test root.
    """


def judge_example(request: JudgeExample) -> Judgement:
    """Whether a leaf of a transcript is what the model gives for the example.

    A model whose weights do not fit its graph has no result for any example, as for whoever scores it whole.

    Raises:
        CopyDamaged: this host's files are at fault.
        PotLabError: the request proves nothing.
    """
    function = known_function(request.function)
    _check_leaf(request)
    graph_bytes = read_copy(request.graph, DEFAULT_LIMITS.graph_bytes, "graph file")
    weights = read_copy(request.weights, DEFAULT_LIMITS.weights_bytes, "weights file")
    if model_id(hashlib.sha256(graph_bytes).digest(), weights) != request.mid:
        raise CopyDamaged("graph and weights are not the model of this id")
    inputs, target = _example(request)
    graph = load_graph(graph_bytes)
    check_dataset(graph, inputs, target, function)
    expected = _honest_leaf(request, _result(graph, weights, inputs, target, function))
    right = expected is not None and request.leaf == expected
    return Judgement(finding=Finding.RIGHT if right else Finding.WRONG, expected=expected)


def known_function(identifier: str) -> ScoreFunction:
    """The score function of an order's full identifier. Raises: UnknownScoreFunction, ProvesNothing."""
    function = score_function(identifier)
    if function.identifier != identifier:
        raise ProvesNothing("a score function is not named in full", seen=identifier, wanted=function.identifier)
    return function


def _check_leaf(request: JudgeExample) -> None:
    proof = request.proof
    if proof.count != request.examples or not 0 <= proof.index < proof.count:
        raise ProvesNothing(
            "the leaf's place is not one of the order's examples",
            seen=f"{proof.index} of {proof.count}",
            wanted=f"0 .. {request.examples - 1} of {request.examples}",
        )
    if not proof.verify(request.transcript_root, request.leaves_total, request.leaf):
        raise ProvesNothing("the leaf is not under the transcript's root", seen=request.leaf)


def _example(request: JudgeExample) -> tuple[Inputs, Tensor]:
    """The example as a batch of one."""
    index = request.proof.index
    if isinstance(request.example, ExampleRow):
        path = request.example.path
        check_file(path, DEFAULT_LIMITS.dataset_bytes, "test data file")
        data = DatasetFile(Path(path))
        if data.examples != request.examples:
            raise CopyDamaged("the test data file has another number of examples", seen=data.examples)
        proof = proof_from_tree(Path(request.example.tree), index, request.examples)
        if not proof.verify(request.test_root, example_leaf(data.inputs, data.targets, index)):
            raise CopyDamaged("the row of the test data file is not under the root")
        return some_rows(data.inputs, slice(index, index + 1)), data.targets[index : index + 1]
    return proven_example(request.example, request.test_root, index, request.examples)


def proven_example(example: ProvenExample, test_root: bytes, index: int, examples: int) -> tuple[Inputs, Tensor]:
    """The tensors of an example from outside, as a batch of one, once they are proved to be the order's.

    Raises:
        ProvesNothing: they are not at `index` of `examples` under `test_root`, or no tensors.
    """
    if not 2 <= len(example.tensors) <= LARGEST_INPUTS + 1:
        raise ProvesNothing("an example has inputs and a target", seen=f"{len(example.tensors)} tensors")
    *inputs, target = [_tensor(each) for each in example.tensors]
    chosen = tuple(inputs) if len(inputs) > 1 else inputs[0]
    proof = example.proof
    if (proof.index, proof.count) != (index, examples):
        raise ProvesNothing(
            "the example and the leaf stand at different places",
            seen=f"{proof.index} of {proof.count}",
            wanted=f"{index} of {examples}",
        )
    if not proof.verify(test_root, example_leaf(chosen, target, 0)):
        raise ProvesNothing("the example is not under the root of the test data")
    return chosen, target


def _tensor(given: TensorBytes) -> Tensor:
    dtype = _DTYPES.get(given.dtype)
    if dtype is None:
        raise ProvesNothing("an example has a number type that data may not have", seen=given.dtype)
    if len(given.shape) > _LARGEST_DIMENSIONS or not all(size > 0 for size in given.shape):
        raise ProvesNothing("an example has an impossible shape", seen=given.shape)
    if math.prod(given.shape) * dtype.itemsize != len(given.data):
        raise ProvesNothing("an example's bytes do not have its shape", seen=f"{len(given.data)} for {given.shape}")
    return torch.frombuffer(bytearray(given.data), dtype=dtype).reshape(1, *given.shape)


def _result(graph: ModelGraph, weights: bytes, inputs: Inputs, target: Tensor, function: ScoreFunction) -> ExampleScore:
    try:
        exact = exact_model(graph, weights, device="cpu", slices=function.slices)
    except (BadWeights, DtypeMismatch, ShapeMismatch, Oversize) as problem:
        if is_fault(problem):
            raise
        return ExampleScore(0, True)
    values, invalid = exact.results(inputs, target, function)
    return ExampleScore(int(values[0]), bool(invalid[0]))


def _honest_leaf(request: JudgeExample, found: ExampleScore) -> int | None:
    """The leaf that a transcript of this kind must hold; None where it contradicts itself whatever stands there."""
    if not request.valid and request.leaves_total < 1:
        return None  # a score that is called invalid, with no example that shows it
    leaf = found.leaf(request.valid)
    return None if leaf < 0 else leaf
