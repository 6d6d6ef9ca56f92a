"""Files from strangers: each kind is refused with its own error, before anything is run or allocated."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from typing import Any

import pytest
import torch

from pot_lab.errors import Oversize, PotLabError
from pot_lab.scoring import Limits, load_graph, load_weights, unpack_dataset
from pot_lab.scoring.errors import (
    BadDataset,
    BadWeights,
    BatchMixing,
    CostLimit,
    DtypeMismatch,
    HostileGraph,
    ShapeMismatch,
    UnsupportedOperator,
)
from pot_lab.scoring.graph.model_graph import encode_graph
from pot_lab.scoring.tensor_file import write_tensors
from tests.scoring.graphs import document, entry

LINEAR = {"op": "aten.linear.default", "args": [{"$": 2}, {"$": 0}, {"$": 1}], "kwargs": {}}


def call(op: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"op": op, "args": list(args), "kwargs": kwargs}


def calls(*nodes: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A document whose nodes are a linear layer and `nodes`; the last is the output."""
    return document(nodes=[LINEAR, *nodes], outputs=[3 + len(nodes)], **parts)


V = {"$": 3}
"""The linear layer's result, [batch, 2]."""

HOSTILE: dict[str, tuple[dict[str, Any], type[PotLabError]]] = {
    "unknown operator": (calls(call("aten.fft_fft.default", V)), UnsupportedOperator),
    "image resized without end": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 1, 2]),
            call("aten.upsample_nearest2d.vec", {"$": 4}, [1 << 27, 1], None),
        ),
        CostLimit,
    ),
    "image magnified without end": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 2]), call("aten.upsample_linear1d.vec", {"$": 4}, None, False, [9e5])
        ),
        CostLimit,
    ),
    "image magnified by nothing": (
        calls(call("aten.unflatten.int", V, 1, [1, 2]), call("aten.upsample_nearest1d.vec", {"$": 4}, None, [0.0])),
        HostileGraph,
    ),
    "cells without end": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 1, 2]),
            call("aten.adaptive_avg_pool2d.default", {"$": 4}, [9999, 9999]),
        ),
        CostLimit,
    ),
    "zeros between places without end": (
        document(
            inputs=[entry((1, 3))],
            nodes=[
                call("aten.unflatten.int", {"$": 0}, 1, [1, 1]),
                call("aten.conv_transpose1d.default", {"$": 2}, {"$": 1}, None, [1 << 30], [1 << 30]),
            ],
        ),
        PotLabError,
    ),
    "a recurrent layer without end": (
        calls(
            call("aten.zeros.default", [2, 1 << 20, 2]),
            call("aten.zeros.default", [1, 2, 2]),
            call("aten.lstm.input", {"$": 4}, [{"$": 5}, {"$": 5}], [{"$": 0}] * 4, True, 1, 0.0, False, False, True),
            call("get", {"$": 6}, 0),
        ),
        CostLimit,
    ),
    "a recurrent layer with too few weights": (
        calls(
            call("aten.zeros.default", [1, 2, 2]),
            call("aten.lstm.input", V, [V, V], [{"$": 0}], True, 3, 0.0, False, True, True),
        ),
        PotLabError,
    ),
    "equation that is code": (calls(call("aten.einsum.default", "__import__('os')", [V])), HostileGraph),
    "equation of repeated letters": (calls(call("aten.einsum.default", "aa->a", [V])), HostileGraph),
    "equation without a result": (calls(call("aten.einsum.default", "ab", [V])), HostileGraph),
    "numbers without end": (calls(call("aten.arange.default", 1e15), call("aten.relu.default", V)), CostLimit),
    "number that is no number in a range": (calls(call("aten.arange.default", {"float": "nan"})), HostileGraph),
    "range of the batch": (
        calls(call("aten.sym_size.int", V, 0), call("aten.arange.default", {"$": 4}), call("aten.relu.default", V)),
        BatchMixing,
    ),
    "one hot without end": (calls(call("aten.one_hot.default", V, 1 << 40)), HostileGraph),
    "picking by truth": (
        calls(call("aten.gt.Scalar", V, 0), call("aten.index.Tensor", V, [None, {"$": 4}])),
        HostileGraph,
    ),
    "arithmetic of truth": (
        calls(call("aten.gt.Scalar", V, 0), call("aten.add.Tensor", {"$": 4}, {"$": 4})),
        HostileGraph,
    ),
    "bits of numbers": (calls(call("aten.bitwise_not.default", V)), HostileGraph),
    "a norm of another order": (calls(call("aten.linalg_vector_norm.default", V, 3, [1])), HostileGraph),
    "copies without end": (calls(call("aten.repeat.default", V, [1, 1 << 30])), CostLimit),
    "operator of another namespace": (calls(call("prims.relu.default", V)), UnsupportedOperator),
    "out overload": (calls(call("aten.relu.out", V)), UnsupportedOperator),
    "operator without overload": (calls(call("aten.relu", V)), UnsupportedOperator),
    "in-place operator": (calls(call("aten.relu_.default", V)), UnsupportedOperator),
    "python import": (calls(call("os.system.default", "true")), UnsupportedOperator),
    "attribute walk": (calls(call("aten.__class__.__init__", V)), UnsupportedOperator),
    "forward reference": (calls(call("aten.relu.default", {"$": 9})), HostileGraph),
    "reference to itself": (calls(call("aten.relu.default", {"$": 4})), HostileGraph),
    "negative reference": (calls(call("aten.relu.default", {"$": -1})), HostileGraph),
    "reference that is no number": (calls(call("aten.relu.default", {"$": "3"})), HostileGraph),
    "reference that is true": (calls(call("aten.relu.default", {"$": True})), HostileGraph),
    "reference with more keys": (calls(call("aten.relu.default", {"$": 3, "x": 1})), HostileGraph),
    "tuple for tensor": (calls(call("aten.chunk.default", V, 2, 1), call("aten.relu.default", {"$": 4})), HostileGraph),
    "item of a tensor": (calls(call("get", V, 0)), HostileGraph),
    "item out of range": (calls(call("aten.chunk.default", V, 2, 1), call("get", {"$": 4}, 7)), HostileGraph),
    "missing argument": (calls(call("aten.softmax.int", V)), HostileGraph),
    "too many arguments": (calls(call("aten.relu.default", V, V)), HostileGraph),
    "unknown keyword": (calls(call("aten.relu.default", V, out=V)), HostileGraph),
    "argument twice": (calls(call("aten.gelu.default", V, "none", approximate="none")), HostileGraph),
    "text for number": (calls(call("aten.softmax.int", V, "1")), HostileGraph),
    "true for number": (calls(call("aten.softmax.int", V, True)), HostileGraph),
    "unknown text": (calls(call("aten.gelu.default", V, "fast")), HostileGraph),
    "huge int": (calls(call("aten.softmax.int", V, 1 << 40)), HostileGraph),
    "int of 5000 digits": (calls(call("aten.softmax.int", V, 10**4000)), HostileGraph),
    "zero groups": (calls(call("aten.group_norm.default", V, 0)), HostileGraph),
    "zero stride": (
        document(
            inputs=[entry((3, 8))],
            nodes=[call("aten.avg_pool1d.default", {"$": 2}, [2], [0])],
            outputs=[3],
        ),
        HostileGraph,
    ),
    "negative padding": (
        document(
            inputs=[entry((3, 8))], nodes=[call("aten.avg_pool1d.default", {"$": 2}, [2], [1], [-1])], outputs=[3]
        ),
        HostileGraph,
    ),
    "padding that leaves nothing": (calls(call("aten.constant_pad_nd.default", V, [-3, 0])), PotLabError),
    "a part of the batch put back": (
        calls(call("aten.slice.Tensor", V, 0, 0, 1), call("aten.slice_scatter.default", V, {"$": 4}, 0, 0, 1)),
        BatchMixing,
    ),
    "an example put into others": (
        calls(call("aten.select_scatter.default", V, {"$": 1}, 0, 0)),
        BatchMixing,
    ),
    "a part that does not fit": (calls(call("aten.slice_scatter.default", V, V, 1, 0, 1)), ShapeMismatch),
    "more places than lines": (
        calls(
            call("aten.unsqueeze.default", V, 2),
            call("aten.expand.default", {"$": 4}, [-1, 2, 5]),
            call("aten.argsort.default", {"$": 5}, 2),
            call("aten.scatter.value", {"$": 4}, 1, {"$": 6}, 1.0),
        ),
        ShapeMismatch,
    ),
    "more places than values": (
        calls(
            call("aten.argsort.default", V, 1),
            call("aten.slice.Tensor", V, 1, 0, 1),
            call("aten.scatter_add.default", V, 1, {"$": 4}, {"$": 5}),
        ),
        ShapeMismatch,
    ),
    "scattered along no axis": (
        calls(call("aten.argsort.default", V, 1), call("aten.scatter.value", V, 9, {"$": 4}, 1.0)),
        PotLabError,
    ),
    "a copy that rounds": (
        calls(call("aten.argsort.default", V, 1), call("aten.copy.default", {"$": 4}, V)),
        HostileGraph,
    ),
    "places along axes apart": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 2, 1]),
            call("aten.arange.default", 1),
            call("aten.index.Tensor", {"$": 4}, [None, {"$": 5}, None, {"$": 5}]),
        ),
        HostileGraph,
    ),
    "an equation of four": (calls(call("aten.einsum.default", "ab,ab,ab,ab->ab", [V, V, V, V])), HostileGraph),
    "a norm of no order": (calls(call("aten.linalg_vector_norm.default", V, {"float": "nan"}, [1])), HostileGraph),
    "unknown number type": (calls(call("aten.to.dtype", V, {"dtype": "complex64"})), HostileGraph),
    "cast to small whole numbers": (calls(call("aten.to.dtype", V, {"dtype": "int32"})), HostileGraph),
    "unknown literal": (calls(call("aten.add.Tensor", V, {"float": "1e999"})), HostileGraph),
    "exponent of nothing": (calls(call("aten.pow.Tensor_Scalar", V, 0)), HostileGraph),
    "exponent beyond all": (calls(call("aten.pow.Tensor_Scalar", V, 65)), HostileGraph),
    "exponent that is no number": (calls(call("aten.pow.Tensor_Scalar", V, {"float": "nan"})), HostileGraph),
    "factors without end": (
        calls(
            call("aten.unsqueeze.default", V, 1),
            call("aten.expand.default", {"$": 4}, [-1, 1 << 20, 2]),
            call("aten.prod.dim_int", {"$": 5}, 1),
        ),
        CostLimit,
    ),
    "product over the batch": (calls(call("aten.prod.dim_int", V, 0)), BatchMixing),
    "sorted examples": (calls(call("aten.argsort.default", V, 0)), BatchMixing),
    "median of examples": (calls(call("aten.median.dim", V, 0), call("get", {"$": 4}, 0)), BatchMixing),
    "whole numbers divided by nothing": (
        calls(
            call("aten.arange.default", 2),
            call("aten.div.Tensor_mode", {"$": 4}, 0, rounding_mode="floor"),
            call("aten.relu.default", V),
        ),
        HostileGraph,
    ),
    "remainder by nothing": (
        calls(call("aten.arange.default", 2), call("aten.remainder.Scalar", {"$": 4}, 0), call("aten.relu.default", V)),
        HostileGraph,
    ),
    "rounding of another kind": (calls(call("aten.div.Tensor_mode", V, 2.0, rounding_mode="up")), HostileGraph),
    "scattered to other examples": (
        calls(call("aten.argsort.default", V, 1), call("aten.scatter.value", V, 0, {"$": 4}, 1.0)),
        BatchMixing,
    ),
    "scattered by fractions": (calls(call("aten.scatter.value", V, 1, V, 1.0)), HostileGraph),
    "added to other examples": (
        calls(call("aten.arange.default", 2), call("aten.index_add.default", V, 0, {"$": 4}, V)),
        PotLabError,
    ),
    "scattered into a fixed tensor": (
        calls(
            call("aten.argsort.default", V, 1),
            call("aten.zeros.default", [2, 2]),
            call("aten.scatter_add.default", {"$": 5}, 1, {"$": 4}, V),
        ),
        PotLabError,
    ),
    "windows without end": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 1, 2]),
            call("aten.im2col.default", {"$": 4}, [1, 1], [1, 1], [30000, 30000], [1, 1]),
        ),
        CostLimit,
    ),
    "windows of three sizes": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 1, 2]),
            call("aten.im2col.default", {"$": 4}, [1, 1, 1], [1, 1], [0, 0], [1, 1]),
        ),
        HostileGraph,
    ),
    "fold to an image without end": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 2]),
            call("aten.col2im.default", {"$": 4}, [1 << 29, 2], [1, 1], [1, 1], [0, 0], [1 << 29, 1]),
        ),
        PotLabError,
    ),
    "windows along the batch": (calls(call("aten.unfold.default", V, 0, 1, 1)), BatchMixing),
    "windows along nothing": (calls(call("aten.unfold.default", V, 7, 1, 1)), HostileGraph),
    "picture magnified by cubics without end": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 1, 2]),
            call("aten.upsample_bicubic2d.vec", {"$": 4}, None, False, [9e5, 9e5]),
        ),
        CostLimit,
    ),
    "cells of a volume without end": (
        calls(
            call("aten.unflatten.int", V, 1, [1, 1, 1, 2]),
            call("aten.adaptive_avg_pool3d.default", {"$": 4}, [99, 99, 99]),
        ),
        CostLimit,
    ),
    "bilinear form of two batches": (
        document(
            inputs=[entry((2,))],
            state=[{"name": "w", "kind": "parameter", "dtype": "float32", "shape": [3, 2, 2]}],
            nodes=[
                call("aten.unsqueeze.default", {"$": 1}, 0),
                call("aten.unsqueeze.default", {"$": 1}, 1),
                call("aten.bilinear.default", {"$": 2}, {"$": 3}, {"$": 0}),
            ],
            outputs=[4],
        ),
        PotLabError,
    ),
    "names of three axes for einsum": (calls(call("aten.einsum.default", "...i->...", [V])), HostileGraph),
    "device literal": (calls(call("aten.contiguous.default", V, {"device": "cuda"})), HostileGraph),
    "dimension out of range": (calls(call("aten.softmax.int", V, 5)), ShapeMismatch),
    "dimension twice": (calls(call("aten.softmax.int", V, 1), call("aten.sum.dim_IntList", V, [1, -1])), ShapeMismatch),
    "shapes that do not fit": (calls(call("aten.linear.default", V, {"$": 0})), ShapeMismatch),
    "tensor bomb by expand": (
        calls(call("aten.unsqueeze.default", V, 1), call("aten.expand.default", {"$": 4}, [-1, 1 << 30, 2])),
        CostLimit,
    ),
    "tensor bomb by padding": (calls(call("aten.constant_pad_nd.default", V, [0, 2_000_000_000])), CostLimit),
    "tensor bomb of 10^18 elements": (
        calls(
            call("aten.unsqueeze.default", V, 1),
            call("aten.unsqueeze.default", {"$": 4}, 1),
            call("aten.expand.default", {"$": 5}, [-1, 1 << 30, 1 << 29, 2]),
        ),
        CostLimit,
    ),
    "tensor bomb by doubling": (
        calls(*[call("aten.cat.default", [{"$": 3 + i}, {"$": 3 + i}], 1) for i in range(40)]),
        CostLimit,
    ),
    "a thousand million pieces": (
        calls(
            call("aten.unsqueeze.default", V, 1),
            call("aten.expand.default", {"$": 4}, [-1, 1 << 20, 2]),
            call("aten.split.Tensor", {"$": 5}, 1, 1),
            call("get", {"$": 6}, 0),
        ),
        CostLimit,
    ),
    "convolution of windows that fill the memory": (
        document(
            inputs=[entry((1, 1024, 1024))],
            state=[{"name": "w", "kind": "parameter", "dtype": "float32", "shape": [1, 1, 512, 512]}],
            nodes=[call("aten.conv2d.default", {"$": 1}, {"$": 0})],
            outputs=[2],
        ),
        CostLimit,
    ),
    "kernel beyond the exact bound": (
        document(
            inputs=[entry((1, 70, 70))],
            state=[{"name": "w", "kind": "parameter", "dtype": "float32", "shape": [1, 1, 65, 65]}],
            nodes=[call("aten.conv2d.default", {"$": 1}, {"$": 0})],
            outputs=[2],
        ),
        ShapeMismatch,
    ),
    "weights bomb": (
        document(
            state=[{"name": "w", "kind": "parameter", "dtype": "float32", "shape": [2**30, 2**30]}],
            nodes=[],
            outputs=[1],
        ),
        CostLimit,
    ),
    "batch statistics": (calls(call("aten.softmax.int", V, 0)), BatchMixing),
    "sum over the batch": (
        calls(call("aten.mean.dim", V, [0], True), call("aten.sub.Tensor", V, {"$": 4})),
        BatchMixing,
    ),
    "sum over everything": (calls(call("aten.sum.dim_IntList", V, None)), BatchMixing),
    "neighbour in the batch": (
        calls(call("aten.slice.Tensor", V, 0, 0, 1), call("aten.add.Tensor", V, {"$": 4})),
        BatchMixing,
    ),
    "transposed batch": (
        calls(call("aten.t.default", V), call("aten.softmax.int", {"$": 4}, 1), call("aten.t.default", {"$": 5})),
        BatchMixing,
    ),
    "torn batch": (calls(call("aten.view.default", V, [2, -1])), BatchMixing),
    "examples multiplied": (calls(call("aten.t.default", V), call("aten.mm.default", V, {"$": 4})), BatchMixing),
    "place in the batch": (
        calls(
            call("aten.add.Tensor", V, {"$": 0}),
            state=[
                {"name": "w", "kind": "parameter", "dtype": "float32", "shape": [2, 2]},
                {"name": "b", "kind": "parameter", "dtype": "float32", "shape": [2]},
            ],
            inputs=[entry((2,))],
        ),
        BatchMixing,
    ),
    "size of the batch as a number": (
        calls(call("aten.sym_size.int", V, 0), call("aten.mul.Tensor", V, {"$": 4})),
        BatchMixing,
    ),
    "size of the batch as a place": (
        calls(call("aten.sym_size.int", V, 0), call("aten.select.int", V, 1, {"$": 4})),
        BatchMixing,
    ),
    "whole number divided by zero": (
        calls(call("aten.sym_size.int", V, 1), call("int.floordiv", {"$": 4}, 0), call("aten.relu.default", V)),
        HostileGraph,
    ),
    "no inputs": (document(inputs=[]), HostileGraph),
    "no outputs": (document(outputs=[]), HostileGraph),
    "output that is no tensor": (document(nodes=[LINEAR, call("aten.sym_size.int", V, 0)], outputs=[4]), HostileGraph),
    "output that is a weight": (document(outputs=[0]), BatchMixing),
    "input without a batch": (document(inputs=[{"dtype": "float32", "shape": [4, 3]}]), HostileGraph),
    "input of size zero": (document(inputs=[{"dtype": "float32", "shape": [None, 0]}]), HostileGraph),
    "name twice": (document(state=[document()["state"][1]] * 2), HostileGraph),
    "Unicode name": (
        document(
            state=[{"name": "wеight", "kind": "parameter", "dtype": "float32", "shape": [2, 3]}, document()["state"][1]]
        ),
        HostileGraph,
    ),
    "name that hides a method": (
        document(
            state=[
                {"name": "forward.weight", "kind": "parameter", "dtype": "float32", "shape": [2, 3]},
                document()["state"][1],
            ]
        ),
        HostileGraph,
    ),
    "name inside a name": (
        document(
            state=[{"name": "layer", "kind": "parameter", "dtype": "float32", "shape": [2, 3]}, document()["state"][1]]
        ),
        HostileGraph,
    ),
    "alias of nothing": (document(aliases={"other": "none"}), HostileGraph),
    "whole-number parameter": (
        document(state=[{"name": "w", "kind": "parameter", "dtype": "int64", "shape": [2]}, document()["state"][1]]),
        HostileGraph,
    ),
    "constant without content": (
        document(
            state=[{"name": "w", "kind": "constant", "dtype": "float32", "shape": [2, 3]}, document()["state"][1]]
        ),
        HostileGraph,
    ),
    "another version": (document(version=2), HostileGraph),
    "version true": (document(version=True), HostileGraph),
    "more keys": (document() | {"hook": "x"}, HostileGraph),
    "state that is no list": (document(state={}), HostileGraph),
    "node that is no object": (document(nodes=["aten.relu.default"]), HostileGraph),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_graph_is_refused(kind: str) -> None:
    graph, error = HOSTILE[kind]
    with pytest.raises(error):
        load_graph(encode_graph(graph) if kind != "int of 5000 digits" else big_int_graph())


def big_int_graph() -> bytes:
    return encode_graph(calls(call("aten.softmax.int", V, 123456))).replace(b"123456", b"9" * 5000)


def test_the_document_they_are_made_from_is_good() -> None:
    assert load_graph(encode_graph(document())).outputs[0].shape == (2,)
    assert load_graph(encode_graph(calls(call("aten.softmax.int", V, 1)))).cost.work > 0


GOOD = encode_graph(document())
HOSTILE_BYTES = {
    "nothing": b"",
    "no JSON": b"{",
    "pickle": pickle.dumps({"a": 1}),
    "spaces": GOOD.replace(b",", b", ", 1),
    "key twice": GOOD.replace(b'"version":1', b'"version":1,"version":1'),
    "other key order": json.dumps(
        {k: document()[k] for k in sorted(document(), reverse=True)}, separators=(",", ":")
    ).encode(),
    "deep nesting": b"[" * 100_000 + b"]" * 100_000,
    "NaN literal": GOOD.replace(b'"version":1', b'"version":NaN'),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "trailing bytes": GOOD + b"\n",
    "a list": b"[]",
    "number with exponent": GOOD.replace(b'"version":1', b'"version":1e0'),
}


@pytest.mark.parametrize("kind", HOSTILE_BYTES)
def test_bytes_that_are_no_canonical_graph_are_refused(kind: str) -> None:
    with pytest.raises(HostileGraph):
        load_graph(HOSTILE_BYTES[kind])


def test_limits_come_before_parsing() -> None:
    with pytest.raises(Oversize):
        load_graph(GOOD, Limits(graph_bytes=len(GOOD) - 1))
    with pytest.raises(CostLimit):
        load_graph(GOOD, Limits(nodes=1))
    with pytest.raises(CostLimit):
        load_graph(GOOD, Limits(work=10))


# ---- weights


GRAPH = load_graph(GOOD)
WEIGHTS = {"layer.weight": torch.zeros(2, 3), "layer.bias": torch.zeros(2)}


def saved_by_torch() -> bytes:
    buffer = io.BytesIO()
    torch.save(WEIGHTS, buffer)
    return buffer.getvalue()


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"\0" * 10_000_000)
    return buffer.getvalue()


def with_header(header: bytes, body: bytes = b"\0" * 32) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


HEADER = (
    b'{"layer.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
    b'"layer.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}}'
)
BAD_WEIGHTS: dict[str, tuple[bytes, type[PotLabError], str]] = {
    "torch.save": (saved_by_torch(), BadWeights, "only safetensors are accepted"),
    "pickle": (pickle.dumps(WEIGHTS), BadWeights, "a pickle; only safetensors"),
    "old pickle": (pickle.dumps({"a": 1}, protocol=2), BadWeights, "a pickle"),
    "zip bomb": (zip_bomb(), BadWeights, "zip archive"),
    "numpy file": (b"\x93NUMPY\x01\x00", BadWeights, "numpy"),
    "nothing": (b"", BadWeights, "too short"),
    "header longer than the file": (struct.pack("<Q", 1 << 60) + b"{}", BadWeights, "header does not fit"),
    "header that is no JSON": (with_header(b"{" * 20), BadWeights, "bad header"),
    "name twice": (with_header(HEADER[:-1] + b"," + HEADER[1:]), BadWeights, "stands twice"),
    "overlapping tensors": (
        with_header(HEADER.replace(b"[8,32]", b"[0,24]"), b"\0" * 24),
        BadWeights,
        "no valid safetensors",
    ),
    "truncated": (with_header(HEADER, b"\0" * 31), BadWeights, "no valid safetensors"),
    "bytes left over": (with_header(HEADER, b"\0" * 64), BadWeights, "no valid safetensors"),
    "shape bomb": (with_header(HEADER.replace(b"[2,3]", b"[1000000000000]")), ShapeMismatch, "another shape"),
    "unknown number type": (with_header(HEADER.replace(b'"F32"', b'"F8_E5M2"', 1)), BadWeights, "number type"),
    "tensor missing": (write_tensors({"layer.bias": torch.zeros(2)}), BadWeights, "lacking"),
    "tensor too many": (write_tensors(WEIGHTS | {"more": torch.zeros(1)}), BadWeights, "unknown"),
    "other shape": (write_tensors(WEIGHTS | {"layer.bias": torch.zeros(3)}), ShapeMismatch, "another shape"),
    "other type": (
        write_tensors(WEIGHTS | {"layer.bias": torch.zeros(2, dtype=torch.float64)}),
        DtypeMismatch,
        "float64",
    ),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_bad_weights_are_refused(kind: str) -> None:
    data, error, text = BAD_WEIGHTS[kind]
    with pytest.raises(error, match=text):
        load_weights(GRAPH, data)


def test_a_header_of_any_length_is_safetensors() -> None:
    """The length that a file begins with may have the first bytes of a pickle, or of another format."""
    for length in (0x0280, 0x0380, 0x0480, 0x0580, 0x8B1F):
        header = HEADER + b" " * (length - len(HEADER))
        tensors = load_weights(GRAPH, with_header(header))
        assert set(tensors) == set(WEIGHTS)


def test_a_pickle_is_never_opened() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("a pickle was opened",))

    for protocol in range(2, 6):
        with pytest.raises(BadWeights, match="pickle"):
            load_weights(GRAPH, pickle.dumps(Bomb(), protocol=protocol))
        with pytest.raises(BadDataset, match="pickle"):
            unpack_dataset(pickle.dumps(Bomb(), protocol=protocol))
