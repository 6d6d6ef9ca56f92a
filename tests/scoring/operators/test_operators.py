"""Every operator: its schema is ATen's, its bits are the second implementation's, its numbers are torch's in
float64."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pot_lab.scoring import exact_model, trainable
from pot_lab.scoring.errors import ShapeMismatch
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.operators import REGISTRY
from tests.scoring import numpy_scoring
from tests.scoring.graphs import W, X, one_call
from tests.scoring.operators import test_families


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * scale


def positive(*shape: int) -> torch.Tensor:
    return numbers(*shape).abs() + 0.1


IMAGE, SIGNAL, ROW = (4, 9, 7), (4, 23), (6, 10)
CASES = [
    ("aten.linear.default", (12,), [X, W(numbers(5, 12)), W(numbers(5))]),
    ("aten.linear.default", (3, 5000), [X, W(numbers(4, 5000))]),
    ("aten.matmul.default", (3, 8), [X, W(numbers(8, 5))]),
    ("aten.matmul.default", (3, 8), [W(numbers(5, 3)), X]),
    ("aten.mm.default", (8,), [X, W(numbers(8, 5))]),
    ("aten.conv1d.default", SIGNAL, [X, W(numbers(6, 4, 5)), W(numbers(6)), [2], [1], [2], 1]),
    ("aten.conv1d.padding", SIGNAL, [X, W(numbers(6, 2, 4)), None, [1], "same", [1], 2]),
    ("aten.conv2d.default", IMAGE, [X, W(numbers(6, 4, 3, 2)), W(numbers(6)), [2, 1], [1, 0], [1, 2], 1]),
    ("aten.conv2d.default", IMAGE, [X, W(numbers(8, 1, 3, 3)), None, [1, 1], [1, 1], [1, 1], 4]),
    ("aten.conv2d.default", (700, 4, 4), [X, W(numbers(2, 700, 3, 3))]),
    ("aten.conv2d.default", (1400, 3, 3), [X, W(numbers(2, 700, 3, 3)), None, [1, 1], [0, 0], [1, 1], 2]),
    ("aten.conv2d.padding", IMAGE, [X, W(numbers(4, 4, 4, 3)), W(numbers(4)), [1, 1], "same", [1, 1], 1]),
    ("aten.conv2d.padding", IMAGE, [X, W(numbers(4, 4, 4, 3)), W(numbers(4)), [1, 1], "valid"]),
    (
        "aten.batch_norm.default",
        IMAGE,
        [X, W(numbers(4)), W(numbers(4, seed=1)), W(numbers(4, seed=2)), W(positive(4)), True, 0.1, 1e-5, True],
    ),
    ("aten.batch_norm.default", (4,), [X, None, None, W(numbers(4, seed=2)), W(positive(4)), False, 0.1, 1e-3, True]),
    ("aten.layer_norm.default", ROW, [X, [10], W(numbers(10)), W(numbers(10, seed=1)), 1e-5, True]),
    ("aten.layer_norm.default", ROW, [X, [6, 10]]),
    ("aten.group_norm.default", IMAGE, [X, 2, W(numbers(4)), W(numbers(4, seed=1)), 1e-5, True]),
    ("aten.rms_norm.default", ROW, [X, [10], W(numbers(10))]),
    ("aten.softmax.int", ROW, [X, -1]),
    ("aten.log_softmax.int", ROW, [X, 1]),
    ("aten.max_pool1d.default", SIGNAL, [X, [3], [2], [1], [1], True]),
    ("aten.max_pool2d.default", IMAGE, [X, [3, 2], [2, 2], [1, 0], [1, 2]]),
    ("aten.max_pool2d.default", IMAGE, [X, [2]]),
    ("aten.avg_pool1d.default", SIGNAL, [X, [4], [3], [2], False, False]),
    ("aten.avg_pool2d.default", IMAGE, [X, [3, 2], [2, 2], [1, 1], True, False]),
    ("aten.avg_pool2d.default", IMAGE, [X, [3, 2], [2, 2], [1, 1], True, True]),
    ("aten.avg_pool2d.default", IMAGE, [X, [2, 2]]),
    ("aten.adaptive_avg_pool1d.default", SIGNAL, [X, [5]]),
    ("aten.adaptive_avg_pool2d.default", IMAGE, [X, [1, 1]]),
    ("aten.adaptive_avg_pool2d.default", IMAGE, [X, [4, 3]]),
    ("aten.adaptive_max_pool1d.default", SIGNAL, [X, [5]]),
    ("aten.adaptive_max_pool2d.default", IMAGE, [X, [4, 3]]),
    *[
        (f"aten.{name}.default", ROW, [X])
        for name in [
            "relu",
            "relu6",
            "exp",
            "erf",
            "tanh",
            "sigmoid",
            "silu",
            "mish",
            "hardswish",
            "hardsigmoid",
            "neg",
            "abs",
            "square",
            "reciprocal",
            "gelu",
            "leaky_relu",
            "elu",
            "softplus",
            "hardtanh",
        ]
    ],
    *[(f"aten.{name}.default", (-1, *ROW), [X]) for name in ("log", "sqrt", "rsqrt")],
    ("aten.gelu.default", ROW, [X], {"approximate": "tanh"}),
    ("aten.leaky_relu.default", ROW, [X, 0.2]),
    ("aten.elu.default", ROW, [X, 1.5, 0.7, 2.0]),
    ("aten.softplus.default", ROW, [X, 2, 1]),
    ("aten.hardtanh.default", ROW, [X, -0.5, 0.25]),
    ("aten.clamp.default", ROW, [X, -0.5]),
    ("aten.clamp.default", ROW, [X, None, 0.5]),
    *[("aten.pow.Tensor_Scalar", (-1, *ROW), [X, n]) for n in (1, 2, 3.0, 8, -1, -2, 0.5, -0.5)],
    ("aten.add.Tensor", ROW, [X, W(numbers(10))]),
    ("aten.add.Tensor", ROW, [X, 0.3], {"alpha": 0.7}),
    ("aten.sub.Tensor", ROW, [X, W(numbers(6, 1))], {"alpha": 3}),
    ("aten.rsub.Scalar", ROW, [X, 1.5]),
    ("aten.mul.Tensor", ROW, [X, W(numbers(10))]),
    ("aten.div.Tensor", ROW, [X, 3.0]),
    ("aten.div.Tensor", ROW, [X, W(positive(10))]),
    ("aten.maximum.default", ROW, [X, W(numbers(10))]),
    ("aten.minimum.default", ROW, [X, W(numbers(10))]),
    ("aten.mean.dim", IMAGE, [X, [-1, 2], True]),
    ("aten.mean.dim", ROW, [X, [1]]),
    ("aten.sum.dim_IntList", IMAGE, [X, [1, 2, 3]]),
    ("aten.amax.default", ROW, [X, [-1]]),
    ("aten.view.default", ROW, [X, [-1, 3, 20]]),
    ("aten.reshape.default", ROW, [X, [-1, 60]]),
    ("aten.flatten.using_ints", IMAGE, [X, 1]),
    ("aten.unflatten.int", ROW, [X, 2, [2, 5]]),
    ("aten.permute.default", IMAGE, [X, [0, 3, 1, 2]]),
    ("aten.transpose.int", IMAGE, [X, 1, -1]),
    ("aten.unsqueeze.default", ROW, [X, 1]),
    ("aten.squeeze.dim", (1, 5), [X, 1]),
    ("aten.squeeze.dims", (1, 5, 1), [X, [1, 3]]),
    ("aten.expand.default", (1, 5), [X, [-1, 4, 5]]),
    ("aten.cat.default", ROW, [[X, X], 2]),
    ("aten.stack.default", ROW, [[X, X], 1]),
    ("aten.chunk.default", ROW, [X, 3, 2]),
    ("aten.split.Tensor", ROW, [X, 4, 2]),
    ("aten.split_with_sizes.default", ROW, [X, [3, 7], 2]),
    ("aten.select.int", ROW, [X, 1, -1]),
    ("aten.slice.Tensor", ROW, [X, 2, 1, 9, 3]),
    ("aten.slice.Tensor", ROW, [X, 0, 0, (1 << 63) - 1]),
    ("aten.constant_pad_nd.default", ROW, [X, [1, 2, 0, 1], 0.5]),
    ("aten.pad.default", ROW, [X, [1, 2]]),
    *[(f"aten.{name}.default", ROW, [X]) for name in ["contiguous", "clone", "detach", "alias", "lift_fresh_copy"]],
    *[(f"aten.{name}.default", ROW, [X, 0.5, True]) for name in ["dropout", "feature_dropout", "alpha_dropout"]],
    ("aten.to.dtype", ROW, [X, {"dtype": "float32"}]),
]
ELSEWHERE = {"aten.embedding.default", "aten.bmm.default", "aten.t.default", "aten.sym_size.int"}
"""Tested below, for they need other inputs."""


def exactly_equal(ours: torch.Tensor, theirs: np.ndarray) -> bool:
    """Bit for bit; the sign of a zero is no part of a value."""
    return np.array_equal((ours.numpy() + 0.0).view(np.int64), (np.asarray(theirs, np.float64) + 0.0).view(np.int64))


def check(graph: bytes, weights: bytes, inputs: torch.Tensor) -> None:
    loaded = load_graph(graph)
    oracle = numpy_scoring.run(graph, weights, inputs.numpy())
    for backend in ("float64", "int64"):
        exact = exact_model(loaded, weights, backend=backend)
        (out,) = exact.run(inputs)
        assert exactly_equal(out, oracle), f"second implementation differs with backend {backend}"
        alone = torch.cat([exact.run(inputs[i : i + 1])[0] for i in range(len(inputs))])
        assert exactly_equal(out, alone.numpy()), "an example's result depends on its batch"
    native = trainable(loaded, weights).eval().double()
    with torch.no_grad():
        reference = native(inputs.double() if inputs.is_floating_point() else inputs)
    assert float((out - reference).abs().max()) <= 1e-5 * max(1.0, float(reference.abs().max()))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}{c[1]}")
def test_an_operator_has_the_bits_of_the_second_implementation(case: tuple) -> None:
    op, shape, args, kwargs = (*case, {}) if len(case) == 3 else case
    only_positive = shape[:1] == (-1,)
    shape = shape[1:] if only_positive else shape
    graph, weights = one_call(op, shape, args, kwargs, item=0 if REGISTRY[op].returns == "tensors" else None)
    inputs = numbers(5, *shape, seed=3, scale=2.0)
    check(graph, weights, inputs.abs() + 0.01 if only_positive else inputs)


def test_embedding_takes_rows() -> None:
    graph, weights = one_call("aten.embedding.default", (4,), [W(numbers(9, 3)), X], dtype=torch.int64)
    check(graph, weights, torch.arange(20).reshape(5, 4) % 9)


def test_batched_products_multiply_example_by_example() -> None:
    graph, _ = one_call("aten.view.default", (6, 4), [X, [-1, 6, 4]])
    document = json.loads(graph)
    document["nodes"] += [
        {"op": "aten.transpose.int", "args": [{"$": 0}, 1, 2], "kwargs": {}},
        {"op": "aten.bmm.default", "args": [{"$": 1}, {"$": 2}], "kwargs": {}},
    ]
    document["outputs"] = [3]
    check(
        json.dumps(document, sort_keys=True, separators=(",", ":")).encode(),
        one_call("aten.relu.default", (1,), [X])[1],
        numbers(5, 6, 4),
    )


def test_a_transposed_weight_multiplies() -> None:
    graph, weights = one_call("aten.t.default", (4,), [W(numbers(3, 4))])
    document = json.loads(graph)
    document["nodes"].append({"op": "aten.mm.default", "args": [{"$": 1}, {"$": 2}], "kwargs": {}})
    document["outputs"] = [3]
    check(json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), weights, numbers(5, 4))


def test_a_size_of_the_batch_may_shape_a_view() -> None:
    graph, weights = one_call("aten.sym_size.int", (4, 3), [X, 0])
    document = json.loads(graph)
    document["nodes"] += [
        {"op": "int.mul", "args": [{"$": 1}, 2], "kwargs": {}},
        {"op": "int.floordiv", "args": [{"$": 2}, 2], "kwargs": {}},
        {"op": "aten.view.default", "args": [{"$": 0}, [{"$": 3}, 12]], "kwargs": {}},
    ]
    document["outputs"] = [4]
    check(json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), weights, numbers(5, 4, 3))


def test_every_operator_is_tested() -> None:
    assert set(REGISTRY) <= {case[0] for case in CASES} | ELSEWHERE | test_families.covered()


KINDS = {
    "Tensor": ("Tensor",),
    "Operand": ("Tensor",),
    "Tensors": ("List[Tensor]",),
    "float": ("float", "number"),
    "Exponent": ("number",),
    "Probability": ("float",),
    "int": ("int",),
    "Positive": ("int",),
    "bool": ("bool",),
    "Text": ("str",),
    "Dtype": ("int",),
    "AnyDtype": ("int",),
    "Whole": ("number",),
    "Floats": ("List[float]",),
    "Places": ("List[Optional[Tensor]]",),
    "Equation": ("str",),
    "Sizes": ("List[int]",),
    "Ints": ("List[int]",),
    "Positives": ("List[int]",),
    "Naturals": ("List[int]",),
    "Ignored": ("int", "bool", "Device", "List[int]"),
}


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_kernels_signature_is_the_schema_of_its_operator(name: str) -> None:
    operator = REGISTRY[name]
    schema = operator.native._schema.arguments
    assert len(operator.parameters) <= len(schema)
    for ours, theirs in zip(operator.parameters, schema, strict=False):
        kind = ours.kind.partition(" | ")[0]
        theirs_kind = str(theirs.type)
        if theirs_kind.startswith("Optional["):
            theirs_kind = theirs_kind.removeprefix("Optional[").removesuffix("]")
        assert theirs_kind in KINDS[kind], f"{ours.name}: {ours.kind} for {theirs.type}"
        if theirs.has_default_value() and not ours.required and kind != "Ignored":
            assert same_default(ours.default, theirs.default_value), f"{ours.name}: {theirs.default_value}"
    assert all(a.has_default_value() for a in schema[len(operator.parameters) :])


def same_default(ours: object, theirs: object) -> bool:
    """ATen spreads a single number over a list of sizes."""
    if isinstance(ours, tuple):
        theirs = theirs if isinstance(theirs, list | tuple) else [theirs]
        return set(ours) == set(theirs)
    return ours == theirs


@pytest.mark.parametrize(
    ("op", "args", "kwargs"),
    [
        ("aten.mul.Tensor", [X, 0.3], {}),
        ("aten.add.Tensor", [X, 2.5], {"alpha": 3}),
        ("aten.sub.Tensor", [X, 5], {}),
        ("aten.rsub.Scalar", [X, 0.1], {}),
        ("aten.div.Tensor", [X, 3], {}),
        ("aten.clamp.default", [X, -0.5], {}),
        ("aten.tanh.default", [X], {}),
        ("aten.mean.dim", [X, [1]], {}),
        ("aten.to.dtype", [X, {"dtype": "float32"}], {}),
    ],
)
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_whole_numbers_meet_floats_in_float64(op: str, args: list, kwargs: dict, default: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        graph, weights = one_call(op, (6,), args, kwargs, dtype=torch.int64)
        inputs = torch.arange(-15, 15).reshape(5, 6) * 7
        if op == "aten.mean.dim":  # ATen has no mean of whole numbers
            with pytest.raises(ShapeMismatch):
                load_graph(graph)
            return
        (out,) = exact_model(load_graph(graph), weights).run(inputs)
        assert out.dtype in (torch.float64, torch.int64)
        assert exactly_equal(out, numpy_scoring.run(graph, weights, inputs.numpy()))
    finally:
        torch.set_default_dtype(before)
