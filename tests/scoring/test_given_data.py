"""What people have as data becomes tensors with the same numbers, or is refused with the reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pot_lab.errors import PotLabError, UnknownScoreFunction
from pot_lab.notebook.data import read_data
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.posting import prepare
from pot_lab.scoring import export_model, pack_dataset, score, score_example, unpack_dataset
from pot_lab.scoring.errors import DtypeMismatch, ExportFailed
from pot_lab.scoring.given_data import as_tensor
from pot_lab.training import Trainer

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
READ_ONLY = X.numpy().copy()
READ_ONLY.setflags(write=False)

FORMS = {
    "an array": X.numpy(),
    "a flipped array": X.numpy()[:, ::-1][:, ::-1],
    "a big-endian array": X.numpy().astype(">f4"),
    "an array by columns": np.asfortranarray(X.numpy()),
    "a field of records": np.array(
        [(float(i), row) for i, row in enumerate(X.numpy())], dtype=[("i", "f8"), ("x", "f4", 4)]
    )["x"],
    "an array that may not be written": READ_ONLY,
    "a table": pd.DataFrame(X.numpy(), columns=list("abcd")),
    "a table of a split": pd.DataFrame(X.numpy()).drop(index=[]).set_index(np.arange(30)[::-1]),
    "a list of tensors": list(X),
    "a tensor with a gradient": X.clone().requires_grad_(),
    "an expanded tensor": torch.stack([X, X])[0],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(form: str) -> None:
    found = as_tensor(FORMS[form], "inputs")
    assert torch.equal(found, X) and found.dtype is torch.float32 and not found.requires_grad


@pytest.mark.parametrize(
    "labels",
    [pd.Series(Y.numpy()), pd.Series(Y.numpy()).sample(frac=1).sort_index(), Y.tolist(), pd.Series(Y, dtype="Int64")],
)
def test_labels_of_pandas_and_lists_are_read_everywhere(labels: object) -> None:
    net = nn.Linear(4, 3)
    wanted = score(net, X, Y)
    assert score(net, X, labels).digest == wanted.digest
    assert score_example(net, X, labels, index=7).value == wanted.transcript.values[7]
    assert pack_dataset(X, labels) == pack_dataset(X, Y)
    assert torch.equal(read_data("train", (X, labels)).targets, Y)
    artifact = export_model(net, X)
    assert Trainer(artifact.graph, artifact.weights, X, labels).train_until(steps=1).weights


def test_the_rows_of_a_split_keep_their_order() -> None:
    labels = pd.Series(Y.numpy()).drop(index=[2])
    rows = X[labels.index.to_numpy()]
    order = prepare(nn.Linear(4, 3), (rows, labels), (X[:20].clone(), Y[:20].clone()), "accuracy")
    assert torch.equal(unpack_dataset(order.train).targets, torch.as_tensor(labels.to_numpy()))


MISSING = pd.DataFrame({"age": [1, None, 3], "town": ["x", "y", "z"]})
REFUSED = {
    "nothing": (None, "NoneType"),
    "text": (np.array(["a", "b"]), "str"),
    "a text": ("accuracy", "str"),
    "text in a table": (MISSING, r"missing .*row 1, column 'age'"),
    "a missing value": (MISSING.astype(object)[["age"]], r"column 'age'|not finite"),
    "a missing whole number": (pd.Series([1, None, 3], dtype="Int64").astype(object), "row 1"),
    "dates": (pd.Series(pd.to_datetime(["2026-01-01"])), "dates"),
    "objects": (np.array([object()]), "object"),
    "lists of different lengths": ([[1.0], [1.0, 2.0]], "no array"),
    "tensors of different lengths": ([X[0], X[0, :2]], "no array"),
    "text beside numbers": (MISSING.dropna(), r"str 'x' in row 0, column 'town'"),
    "a missing number of pandas": (pd.Series([1, None, 3], dtype="Int64"), "missing .*row 1"),
    "a masked number": (np.ma.masked_greater(X.numpy(), 1.0), "masked .*row [0-9]+, place"),
    "numbers of several types": (np.array([[1.5, True]], dtype=object), r"bool, float, wanted: .*astype"),
    "a nested tensor": (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "padded"),
    "a sparse tensor": (X.to_sparse(), r"sparse_coo, wanted: its to_dense\(\)"),
    "a dict": ({"a": X}, "dict"),
    "a quantised tensor": (torch.quantize_per_tensor(X, 0.1, 0, torch.qint8), r"dequantize\(\)"),
}


@pytest.mark.parametrize("form", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_array_of_numbers_is_refused_with_the_reason(form: str) -> None:
    given, reason = REFUSED[form]
    with pytest.raises(PotLabError, match=reason):
        score(nn.Linear(4, 3), X, given)
    with pytest.raises(PotLabError, match=reason):
        pack_dataset(X, given)
    with pytest.raises(PotLabError, match=f"(?s)train.*({reason})"):
        prepare(nn.Linear(4, 3), (X, given), (X, Y), "accuracy")


def test_one_tensor_may_be_input_and_target() -> None:
    for inputs, targets in ((X, X), (X[:-1], X[1:]), (X.numpy(), X.numpy()), ((X, X), X)):
        found = unpack_dataset(pack_dataset(inputs, targets))
        assert torch.equal(found.targets, torch.as_tensor(targets))


def test_a_score_function_is_a_name() -> None:
    def accuracy_score(truth: object, found: object) -> float:
        return 1.0

    net, artifact = nn.Linear(4, 3), export_model(nn.Linear(4, 3), X)
    for given, shown in ((accuracy_score, "accuracy_score"), (None, "NoneType")):
        with pytest.raises(BadArgument, match='a name such as "accuracy"'):
            prepare(net, (X, Y), (X, Y), given)  # type: ignore[arg-type]
        with pytest.raises(UnknownScoreFunction, match=rf"\(seen: {shown}, wanted: one of accuracy, "):
            score(net, X, Y, given)  # type: ignore[arg-type]
        with pytest.raises(UnknownScoreFunction, match="by its name"):
            Trainer(artifact.graph, artifact.weights, X, Y, function=given)  # type: ignore[arg-type]


def test_a_class_is_no_module() -> None:
    with pytest.raises(BadArgument, match=r"an instance, e.g. Linear\(\)"):
        prepare(nn.Linear, (X, Y), (X, Y), "accuracy")  # type: ignore[arg-type]
    for call in (lambda model: score(model, X, Y), lambda model: export_model(model, X)):
        with pytest.raises(ExportFailed, match=r"an instance, e.g. Linear\(\)"):
            call(nn.Linear)
        with pytest.raises(ExportFailed, match="not a module"):
            call("resnet50")


def test_numbers_that_are_no_data_are_refused_by_type() -> None:
    with pytest.raises(DtypeMismatch, match="complex"):
        score(nn.Linear(4, 3), X.numpy().astype(complex), Y)
