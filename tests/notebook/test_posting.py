"""What an order is made of, for models of one input and of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab.errors import PotLabError
from pot_lab.notebook.posting import BadArgument, prepare
from pot_lab.scoring import dataset_root, load_graph, pack_dataset, score, unpack_dataset
from pot_lab.scoring.errors import ShapeMismatch
from tests.scoring.models import several_inputs


def test_an_order_takes_several_inputs(tmp_path: Path) -> None:
    module, inputs, targets = several_inputs()
    train = tuple(x[:50] for x in inputs), targets[:50]
    test = tuple(x[50:] for x in inputs), targets[50:]
    found = prepare(module, train, test, "accuracy")
    assert [i.name for i in load_graph(found.graph).inputs] == ["input_ids", "attention_mask", "features"]
    assert found.test_root == dataset_root(*test) and found.test_examples == 20
    again = unpack_dataset(found.test)
    assert score((found.graph, found.weights), *again) == score(module, *test)
    path = tmp_path / "train.safetensors"
    path.write_bytes(pack_dataset(*train))
    arrays = tuple(x.numpy() for x in test[0]), test[1].numpy()
    assert prepare(module, path, arrays, "accuracy") == found


@pytest.mark.parametrize("short", [0, 1, 2])
def test_inputs_that_do_not_fit_one_another_are_refused(short: int) -> None:
    module, inputs, targets = several_inputs()
    fewer = tuple(x[:40] if i == short else x for i, x in enumerate(inputs))
    with pytest.raises(ShapeMismatch, match=rf"the test data do not fit: inputs\.{short} and targets"):
        prepare(module, (inputs, targets), (fewer, targets), "accuracy")


def test_missing_inputs_are_refused_with_a_reason() -> None:
    module, inputs, targets = several_inputs()
    with pytest.raises(PotLabError, match="does not run on the train inputs"):
        prepare(module, (inputs[0], targets), (inputs, targets), "accuracy")
    with pytest.raises(ShapeMismatch, match=r"the test data do not fit.*another number of inputs"):
        prepare(module, (inputs, targets), (inputs[:2], targets), "accuracy")
    with pytest.raises(BadArgument, match="no pair"):
        prepare(module, (*inputs, targets), (inputs, targets), "accuracy")
    with pytest.raises(BadArgument, match="at least two examples"):
        prepare(module, (tuple(x[:1] for x in inputs), targets[:1]), (inputs, targets), "accuracy")
    with pytest.raises(BadArgument, match="no tensor"):
        prepare(module, ((inputs[0], "mask"), targets), (inputs, targets), "accuracy")
